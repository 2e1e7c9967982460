"""pipeline/evaluation/evaluate.py in a real run: what the report says is what the published model answers."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.model import ModelContract
from contract.store import CONTRACT_FILE, ModelStore
from engine.loading import load_engine
from pipeline.__main__ import main
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import RunResult, run
from tests.helpers.image_sets import COLORS, color_files, write_files

FIXTURES = Path(__file__).parents[2] / "fixtures"
SETTINGS = [
    "model.input_size=32",
    "data.group=^(.*)_",
    "data.val_fraction=0.4",
    "train.epochs=3",
    "train.batch_size=8",
    "train.fine_tune.epochs=0",
    "evaluate.positive=red",
    "evaluate.uncertain=green",
    "evaluate.order=[blue, green, red]",
    "evaluate.operating_points=[{label: red, sensitivity: 0.95}, {label: blue, specificity: 0.85}]",
    "evaluate.card.definitions={red: mostly red}",
]


@pytest.fixture(name="result", scope="module")
def fixture_result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run with everything declared that can be."""
    work = tmp_path_factory.mktemp("work")
    write_files(work / "colors", color_files(train=16, test=6))
    store = ModelStore(work / "models")
    return run(work / "colors", load_recipe("demo", SETTINGS), store, name="colors", runs_dir=work / "runs")


def served(result: RunResult) -> np.ndarray:
    """What the SavedModel on disk says of the images of predictions.csv."""
    contract = ModelContract.from_json((result.directory / CONTRACT_FILE).read_text())
    pixels = Pixels(ingest(result.folder.parents[2] / "colors").source, contract.input)
    with (result.folder / "predictions.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    engine = load_engine(result.directory, precision="float32")
    try:
        return engine.run("serving_default", {"images": pixels.batch(paths)})["probabilities"]
    finally:
        engine.close()


def key_paths(value: Any, path: str = "") -> Iterator[str]:
    """The keys of a document in order, as paths; of a list, those of its first element."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}/{key}"
            yield from key_paths(inner, f"{path}/{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        yield from key_paths(value[0], f"{path}/0")


@pytest.mark.parametrize("name", ["metrics.json", "contract.json"])
def test_documents_keep_their_keys(result: RunResult, name: str) -> None:
    """metrics.json and the contract have the keys, in the order, that programs read: tests/fixtures/run-keys.json."""
    expected = json.loads((FIXTURES / "run-keys.json").read_text())[name]
    folder = result.folder if name == "metrics.json" else result.directory / "assets.extra"

    assert expected == list(key_paths(json.loads((folder / name).read_text())))


def test_reported_predictions_are_the_served_ones(result: RunResult) -> None:
    """predictions.csv holds the probabilities of the exported graph at float32: the SavedModel on disk repeats them."""
    with (result.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    reported = np.array([[float(row[f"probability_{label}"]) for label in COLORS] for row in rows], np.float32)

    assert np.abs(reported - served(result)).max() < 1e-6


def test_drift_baseline_in_the_contract_is_of_the_served_model(result: RunResult) -> None:
    """Shares of classes and mean confidence are those of the SavedModel on the test images."""
    baseline = ModelContract.from_json((result.directory / CONTRACT_FILE).read_text()).drift_baseline
    probabilities = served(result)
    classes = probabilities.argmax(axis=1).tolist()

    assert baseline is not None
    assert len(probabilities) == baseline.images
    assert {c: classes.count(i) / len(classes) for i, c in enumerate(COLORS)} == pytest.approx(
        baseline.class_shares, abs=1e-6
    )
    assert probabilities.max(axis=1).mean() == pytest.approx(baseline.mean_probability, abs=1e-5)


def test_operating_points_in_the_contract_hold_for_the_served_model(result: RunResult) -> None:
    """Each point's rates are those of the SavedModel on the test images, at the contract's threshold."""
    contract = ModelContract.from_json((result.directory / CONTRACT_FILE).read_text())
    with (result.folder / "predictions.csv").open() as file:
        targets = np.array([row["label"] for row in csv.DictReader(file)])
    probabilities = served(result)

    assert ["red", "blue"] == [point.label for point in contract.operating_points]
    for point in contract.operating_points:
        called = probabilities[:, list(COLORS).index(point.label)] >= point.threshold
        assert point.sensitivity == called[targets == point.label].mean()
        assert point.specificity == (~called[targets != point.label]).mean()


def test_operating_points_are_chosen_on_validation(result: RunResult) -> None:
    """On the validation images every point reaches what the recipe asked for."""
    points = json.loads((result.folder / "metrics.json").read_text())["operating_points"]

    assert [{"sensitivity": 0.95}, {"specificity": 0.85}] == [point["wanted"] for point in points]
    for point in points:
        ((rate, wanted),) = point["wanted"].items()
        assert point["validation"][rate] >= wanted


def test_metrics_hold_all_of_the_evaluation(result: RunResult) -> None:
    """metrics.json has intervals over groups, curves, screening, calibration, network, card and timings."""
    metrics = json.loads((result.folder / "metrics.json").read_text())

    assert (18, 9) == (metrics["test"]["images"], metrics["test"]["groups"])
    assert {"roc", "precision_recall"} == set(metrics["test"]["curves"]["red"])
    assert [["red"], ["red", "green"]] == [r["counted_as_positive"] for r in metrics["test"]["screening"]["readings"]]
    assert metrics["test"]["screening"]["quadratic_kappa"] is not None
    assert {"before", "after"} < set(metrics["calibration"])
    assert "mostly red" == metrics["card"]["definitions"]["red"]
    assert metrics["network"]["parameters"] > 100_000
    assert {"audit", "train", "evaluate", "report", "publish"} <= set(metrics["timings"])


def test_few_validation_images_are_said(result: RunResult) -> None:
    """A threshold that rests on a handful of images comes with a warning, and the temperature stays 1."""
    metrics = json.loads((result.folder / "metrics.json").read_text())

    assert any("threshold for red rests on" in warning for warning in metrics["warnings"])
    assert 1.0 == metrics["temperature"]
    assert "too few to fit one" in (result.folder / "report.html").read_text()


def test_worst_images_are_in_the_runs_report(result: RunResult) -> None:
    """The image with the highest loss is the gallery's first; the model's copy names none."""
    with (result.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    worst = min(rows, key=lambda row: float(row[f"probability_{row['label']}"]))
    report = (result.folder / "report.html").read_text()

    assert worst["path"] == min((row["path"] for row in rows), key=lambda path: report.find(path) % len(report))
    assert worst["path"] not in (result.directory / "assets.extra/report.html").read_text()


def test_unknown_class_stops_before_anything_is_trained(
    result: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The class is named with its neighbour; no run folder is left."""
    colors = result.folder.parents[2] / "colors"
    folders = [f"--models-dir={tmp_path / 'models'}", f"--runs-dir={tmp_path / 'runs'}"]

    status = main(["run", str(colors), "--recipe=demo", "--set=evaluate.positive=rad", *folders])

    assert 1 == status
    assert "evaluate.positive: expected one of the classes blue, green, red" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
