"""pipeline/report/report.py and what it shows: a run's report in full, the model's copy without names and pictures."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.index import ModelEntry
from pipeline.data.split import ManifestRow
from pipeline.errors import RecipeError
from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.measure import measure
from pipeline.evaluation.positive_class import measure_positive_class
from pipeline.evaluation.ranking import draw_curves
from pipeline.evaluation.wrong_labels.label_errors import LikelyError
from pipeline.metrics.reliability import reliability
from pipeline.networks.network import build_classifier
from pipeline.networks.weights import Weights
from pipeline.recipe.evaluate_settings import Card, Evaluate, check_classes
from pipeline.recipe.recipe import Model, Recipe, load_recipe
from pipeline.report.architecture import describe_network
from pipeline.report.card import NOT_A_DEVICE, read_card
from pipeline.report.outcome import write_outcome
from pipeline.report.pictures import FeatureMaps, Pictures, WorstImage, WrongLabel
from pipeline.report.report import without_names, write_report, write_reports
from tests.helpers.browser import CHROMIUM, measure_page, run_chromium, serve_folder

LABELS = ["glaucoma", "normal", "suspect"]
# One transparent pixel: stands for a patient's picture.
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
ROWS = [ManifestRow(f"test/normal/Jane_Doe_{i}.jpg", "0" * 64, "normal", f"Jane Doe {i}", "test") for i in range(3)]


def recipe() -> Recipe:
    settings = ["evaluate.positive=glaucoma", "evaluate.uncertain=suspect", "model.input_size=32"]
    return load_recipe("demo", [*settings, "evaluate.order=[normal, suspect, glaucoma]"])


def document(labels: list[str]) -> dict[str, Any]:
    """What a run gathers, from simulated predictions and a real network."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, len(labels), 300)
    logits = rng.normal(0, 1, (300, len(labels))) + 2 * np.eye(len(labels))[targets]
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    groups = [f"P{i // 2}" for i in range(300)]
    settings = recipe().evaluate if "glaucoma" in labels else Evaluate()
    test = measure(probabilities, targets, labels, groups)
    test["screening"] = measure_positive_class(probabilities, targets, labels, settings, GroupBootstrap(groups))
    test["curves"] = {
        label: curves for i, label in enumerate(labels) if (curves := draw_curves(probabilities[:, i], targets == i))
    }
    classifier = build_classifier(recipe().model, Weights("none", None), num_classes=len(labels), channels=3)
    epoch = {"stage": "network", "epoch": 1, "loss": 0.7, "val_loss": 0.8, "accuracy": 0.6, "val_accuracy": 0.5}
    return {
        "name": "eyes",
        "run": "20260101T000000Z-abcdef",
        "created": "2026-01-01T00:00:00+00:00",
        "weights": "none",
        "recipe": recipe().model_dump(mode="json"),
        "input": {"height": 32, "width": 32},
        "labels": labels,
        "splits": {split: dict.fromkeys(labels, 100) for split in ("train", "val", "test")},
        "num_groups": 450,
        "audit": {"undecodable_image": 2},
        "warnings": ["The set is small.", "1 group is on both sides: Jane Doe 1.", "Blurred: Jane_Doe_2.jpg, dark."],
        "training": {"curves": [epoch, epoch | {"stage": "fine-tune"}], "best": epoch},
        "temperature": 1.3,
        "test": test,
        "calibration": {
            "temperature": 1.3,
            "fitted_on_images": 60,
            "before": reliability(probabilities, targets),
            "after": reliability(probabilities, targets),
        },
        "baseline": {
            "threshold": 2.0,
            "false_alarms": {"wanted": 0.01, "validation_images": 84, "test_images": 120, "test_alarms": 1},
        },
        "wrong_labels": {
            "likely_wrong": 3,
            "images": 600,
            "test_likely_wrong": 1,
            "test_images": 300,
            "left_out": labels[4:],
            "min_groups": 5,
            "held_out_balanced_accuracy": 0.93,
            "needed_balanced_accuracy": 0.67,
            "embeddings": "the trained network's embedding",
            "views": 8,
        },
        "operating_points": [
            {
                "label": labels[0],
                "wanted": {"sensitivity": 0.95},
                "threshold": 0.41,
                "sensitivity": 0.93,
                "specificity": 0.8,
                "positive_groups": 70,
                "negative_groups": 110,
                "validation": {"sensitivity": 0.95, "specificity": 0.82},
            }
        ],
        "network": describe_network(classifier),
        "card": read_card(Card(medical=True, use="Trying things.", definitions={labels[0]: "as drawn"}), labels),
        "versions": {"python": "3.11"},
        "timings": {"audit": 1.0, "train": 2.0},
    }


def pictures() -> Pictures:
    worst = WorstImage(ROWS[0].path, "normal", "glaucoma", 0.9, 0.05, PIXEL, PIXEL)
    maps = FeatureMaps("conv2d", (16, 16, 16), [PIXEL] * 16)
    wrong = WrongLabel(LikelyError(ROWS[1], "glaucoma", 0.01), PIXEL)
    return Pictures([worst] * 12, maps, worst, [maps, maps, maps], [wrong] * 3, [wrong])


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with both reports in it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").write_text("train: {epochs: 2}\n")
    write_reports(folder, document(LABELS), pictures(), ROWS)
    return folder


class _Parser(HTMLParser):
    """Collects every address that a page would load, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.addresses += [address for address in found if not address.startswith("#")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.anchors += [address.removeprefix("#") for address in found if address.startswith("#")]

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(path: Path) -> _Parser:
    parser = _Parser()
    parser.feed(path.read_text())
    return parser


@pytest.mark.parametrize("name", ["report.html", "report-aggregates.html"])
def test_report_is_one_file(folder: Path, name: str) -> None:
    """Every picture and drawing is inside; nothing is fetched from anywhere, also not by its style sheet."""
    page = parsed(folder / name)

    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "url(" not in (folder / name).read_text()
    assert "@import" not in (folder / name).read_text()


@pytest.mark.parametrize("name", ["report.html", "report-aggregates.html"])
def test_report_shows_the_numbers(folder: Path, name: str) -> None:
    """Accuracy with its interval, every AUC with its interval, screening, operating points, card: all are there."""
    text = " ".join(parsed(folder / name).text.split())
    test = document(LABELS)["test"]

    assert NOT_A_DEVICE in text
    assert f"{100 * test['accuracy']:.1f} %" in text
    for values in test["classes"].values():
        assert f"{values['auc']:.3f}" in text
        assert "{:.3f} to {:.3f}".format(*values["auc_interval"]) in text
    assert f"On 300 test images in {test['groups']} groups" in text
    for average in ("macro", "weighted"):
        figures = [f"{100 * test[f'{average}_{rate}']:.1f} %" for rate in ("precision", "recall", "f1")]
        assert f"{average}average{''.join(figures)}".replace(" ", "") in re.sub(r"\s", "", text)
    for words in ("Trying things.", "as drawn", "Finding glaucoma", "glaucoma + suspect", "Quadratic kappa", "0.41"):
        assert words in text
    assert "undecodable image: 2" in text


@pytest.mark.parametrize("name", ["report.html", "report-aggregates.html"])
def test_contents_lead_to_every_section(folder: Path, name: str) -> None:
    """In their order, each once."""
    page = parsed(folder / name)

    assert page.anchors == page.ids
    assert len(set(page.ids)) == len(page.ids) > 10
    assert "gate-parity-and-what-is-live" in page.ids


def test_worst_images_say_wrong_or_unsure(folder: Path) -> None:
    """The fixture's are wrong."""
    text = (folder / "report.html").read_text()

    assert 12 == text.count('<span class="call wrong">wrong</span>')
    assert "<summary>All settings</summary>" in text


def test_outcome_has_the_gate_and_the_parity_check(tmp_path: Path) -> None:
    """With their figures, and what is live; a second writing replaces the first."""
    (tmp_path / "recipe.yaml").write_text("train: {epochs: 2}\n")
    write_reports(tmp_path, document(LABELS), pictures(), ROWS)
    anchors = parsed(tmp_path / "report.html").anchors
    gate = {
        "verdict": "passed", "reason": "better <b>by</b> far", "forced": False, "metric": "balanced_accuracy",
        "margin": 0.02, "images": 120, "groups": 40, "value": 0.9, "live_version": 2, "live_value": 0.85,
        "gain": 0.05, "interval": (0.01, 0.09), "evidence": "not worse", "anchor": None, "published_as": "live",
    }  # fmt: skip
    deviation = {"engine": "openvino", "precision": "float32", "images": 120, "max_deviation": 3e-7}
    verification = {"gate": gate, "deviations": [deviation], "max_deviation": 1e-4}
    for version in (3, 4):
        write_outcome(
            tmp_path / "report.html",
            "eyes",
            version,
            verification=verification,
            equivalences=["bf16 on openvino: equivalent"],
            roles=ModelEntry(live=version, previous=2, highest=version),
        )
    page = parsed(tmp_path / "report.html")
    text = " ".join(page.text.split())

    assert anchors == page.anchors == page.ids
    assert "Version 4 was published as live" in text
    assert "version 4 was live, version 2 the previous one" in text
    assert "Version 3" not in text
    for words in ("better <b>by</b> far", "0.900", "0.850", "+0.050", "0.010 to 0.090", "3.0e-07", "bf16 on openvino"):
        assert words in text


@pytest.mark.parametrize("medical", [False, True])
def test_report_speaks_of_patients_only_where_the_recipe_says_so(tmp_path: Path, medical: bool) -> None:
    """Chairs and birds have no diagnosis, and no patients."""
    card = read_card(Card(medical=medical), LABELS)
    write_report(tmp_path / "report.html", {**document(LABELS), "card": card, "warnings": [], "recipe_yaml": ""})
    text = parsed(tmp_path / "report.html").text

    assert medical == bool(re.search("patient|medical|diagnos", text))
    assert medical == (NOT_A_DEVICE in text)


def test_drawings_are_svg_with_text(folder: Path) -> None:
    """Curves, reliability and learning curves are SVG whose words a reader can search."""
    drawings = [
        base64.b64decode(address.split(",")[1]).decode()
        for address in parsed(folder / "report-aggregates.html").addresses
    ]

    assert 5 == len(drawings)
    for words in ("sensitivity", "precision", "calibration error", "validation", "fine-tune"):
        assert any(words in drawing for drawing in drawings), words
    assert all("<svg" in drawing for drawing in drawings)


def test_copy_in_the_model_has_no_picture_and_no_name(folder: Path) -> None:
    """No photograph, no file name, no group; warnings that name one are withheld, the others stay."""
    full, copy = (folder / name for name in ("report.html", "report-aggregates.html"))

    assert PIXEL in full.read_text()
    assert "Jane" in full.read_text()
    assert all(address.startswith("data:image/svg+xml") for address in parsed(copy).addresses)
    assert not re.search(r"jane|doe|\.jpe?g|\.png", copy.read_text(), re.IGNORECASE)
    assert "The set is small." in copy.read_text()
    assert 1 == copy.read_text().count("A warning names images or groups")


def test_warning_that_names_a_patient_is_withheld() -> None:
    """A group's name is found as a word, in punctuation and with spaces in it; parts of words are not taken for it."""
    rows = [ManifestRow("a/7.png", "0", "a", "P1", "test"), ManifestRow("a/8.png", "0", "a", "Ann Lee", "test")]
    withheld = ["Shared: P1, P9.", "See a/7.png.", "Dark (8.png)", "Ann Lee is on two sides."]

    kept = without_names([*withheld, "P12 is none of ours.", "17 images"], rows)

    assert 3 == len(kept)
    assert ["P12 is none of ours.", "17 images"] == kept[1:]


def test_many_classes_show_the_pairs_confused_most(tmp_path: Path) -> None:
    """Of 30 classes no matrix is drawn; the worst pairs are listed, most images first."""
    labels = [f"species {i:02}" for i in range(30)]

    write_report(tmp_path / "report.html", document(labels) | {"recipe_yaml": ""})

    text = (tmp_path / "report.html").read_text()
    assert 'class="confusion"' not in text
    assert "the pairs that are confused most" in text


def test_text_from_the_set_is_escaped(tmp_path: Path) -> None:
    """A class named like markup, or like a formula, stays text, also in the drawings."""
    labels = ["<script>alert(1)</script>", "$x_1$", "_hidden"]

    write_report(tmp_path / "report.html", document(labels) | {"recipe_yaml": ""})

    assert "<script>" not in (tmp_path / "report.html").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [360, 768])
def test_no_horizontal_scrolling(folder: Path, width: int) -> None:
    """On a phone and on a tablet the page is as wide as the screen."""
    scroll_width, client_width, height = measure_page(folder / "report.html", width=width)

    assert scroll_width == client_width <= width
    assert 2000 < height


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_report_prints(folder: Path, tmp_path: Path) -> None:
    """A browser makes a PDF of it, of pages and not of one."""
    with serve_folder(folder) as url:
        run_chromium(f"{url}/report.html", f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")

    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed))


def test_document_is_json() -> None:
    """metrics.json can hold all of it: no NaN, no numpy type."""
    whole = document(LABELS)

    assert whole == json.loads(json.dumps(whole, allow_nan=False))


@pytest.mark.parametrize(
    ("backbone", "sizes"),
    [
        pytest.param("ResNet", [16, 8, 4, 2], id="residual"),
        pytest.param("MobileNetV3Small", [32, 16, 8, 4, 2, 1], id="squeeze-and-excitation"),
    ],
)
def test_blocks_follow_the_maps_of_the_network(backbone: str, sizes: list[int]) -> None:
    """The backbone's blocks are its main path's map sizes; their parameters and the head's add up to the model's."""
    model = Model(backbone=backbone, weights="none", input_size=32)
    classifier = build_classifier(model, Weights("none", None), num_classes=3, channels=3)

    described = describe_network(classifier)

    assert [[size, size] for size in sizes] == [block["size"] for block in described["blocks"]]
    parameters = sum(part["parameters"] for part in described["blocks"] + described["head"])
    assert classifier.model.count_params() == parameters == described["parameters"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"positive": "glaucom"}, "did you mean glaucoma", id="misspelt"),
        pytest.param({"positive": "glaucoma", "uncertain": "maybe"}, "evaluate.uncertain", id="uncertain"),
        pytest.param({"order": ("normal", "glaucoma")}, "each of glaucoma, normal, suspect once", id="short-order"),
        pytest.param({"operating_points": [{"label": "x", "sensitivity": 0.9}]}, "operating_points", id="point"),
        pytest.param({"card": {"definitions": {"y": "?"}}}, "card.definitions", id="definition"),
    ],
)
def test_unknown_class_is_refused(settings: dict[str, Any], words: str) -> None:
    """A class that the set does not have is an error that names the key and the classes."""
    with pytest.raises(RecipeError, match=words) as raised:
        check_classes(Evaluate.model_validate(settings), LABELS)

    assert "glaucoma, normal, suspect" in str(raised.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        pytest.param("evaluate.uncertain=suspect", "expected evaluate.positive", id="uncertain-alone"),
        pytest.param("evaluate.operating_points=[{label: a}]", "either sensitivity or specificity", id="no-rate"),
        pytest.param("evaluate.positve=a", "did you mean positive", id="misspelt-key"),
    ],
)
def test_senseless_settings_are_refused(override: str, words: str) -> None:
    """The recipe is refused before anything is read."""
    with pytest.raises(RecipeError, match=words):
        load_recipe("default", [override])


def test_definitions_can_be_in_a_file(tmp_path: Path) -> None:
    """A YAML file of class definitions is read; a class that it leaves out has none, an unknown one is refused."""
    path = tmp_path / "classes.yaml"
    path.write_text("glaucoma: damage of the optic nerve\n")

    card = read_card(Card(definitions=str(path)), LABELS)

    assert "damage of the optic nerve" == card["definitions"]["glaucoma"]
    assert card["definitions"]["normal"] is None
    path.write_text("cataract: a lens\n")
    with pytest.raises(RecipeError, match=r"Received: cataract"):
        read_card(Card(definitions=str(path)), LABELS)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_card(Card(definitions=str(tmp_path / "none.yaml")), LABELS)
