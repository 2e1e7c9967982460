"""`show`: the page of one image has the numbers, filters and maps of the network that is published."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from contract.image import decode_image
from contract.model import Label, ModelContract, build_document
from contract.store import ModelStore
from fovea.cli import main
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import Weights
from pipeline.publishing.export import export_saved_model
from pipeline.recipe.recipe import Recipe, load_recipe
from pipeline.report.layers import ServedLayers
from pipeline.report.show import choose_layers
from pipeline.run.prepare import input_spec
from tests.helpers.browser import CHROMIUM, measure_page
from tests.helpers.image_sets import png

LABELS = ("blue", "green", "red")
NETWORKS = {
    "straight": ["model.backbone=MnistCNN", "model.input_size=28", "data.color=grey"],
    "residual": ["model.backbone=ResNet", "model.input_size=32"],
    "branches": ["model.backbone=GoogLeNet", "model.input_size=32", "model.last_layer=concatenate_1"],
    "depthwise": ["model.backbone=MobileNetV2", "model.input_size=32", "model.last_layer=block_4_add"],
    "nested": [
        "model.backbone=ConvNeXtTiny",
        "model.input_size=32",
        "model.last_layer=convnext_tiny_stage_1_block_0_identity",
    ],
}


def publish(store: ModelStore, name: str, settings: list[str]) -> tuple[Classifier, Recipe]:
    """Publish a network of random weights."""
    recipe = load_recipe("default", ["model.weights=none", "train.freeze_backbone=false", *settings])
    spec = input_spec(recipe)
    classifier = build_classifier(recipe.model, Weights("none", None), num_classes=3, channels=spec.channels)
    document = build_document(
        [Label(label, label.capitalize()) for label in LABELS],
        spec,
        saliency=classifier.saliency,
        embedding={"dimension": classifier.embedding_dimension},
        temperature=1.0,
    )
    with store.staging() as directory:
        export_saved_model(classifier, ModelContract.from_document(document), directory)
        store.publish(name, directory, live=True)
    return classifier, recipe


class Page(HTMLParser):
    """The words of a page, and the pictures by their alternative text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.pictures = "", list[tuple[str, str]]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if tag == "img":
            self.pictures.append((found["alt"], found["src"]))
        assert not {"href", "srcset", "data"} & found.keys()

    def handle_data(self, data: str) -> None:
        self.text += data

    def drawn(self, alt: str) -> list[np.ndarray]:
        """Return the pixels of the pictures of an alternative text."""
        sources = [source for text, source in self.pictures if text == alt]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2])))) for s in sources]


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return ((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", NETWORKS)
def test_layers_are_those_of_the_keras_model(tmp_path: Path, kind: str) -> None:
    """Every layer that changes numbers has its Keras name and its Keras output."""
    store = ModelStore(tmp_path / "models")
    keras.backend.clear_session()
    classifier, recipe = publish(store, "net", NETWORKS[kind])
    served = ServedLayers(store.version_path("net", 1))
    spec = input_spec(recipe)
    images = np.random.default_rng(0).integers(0, 256, (1, *spec.shape)).astype(np.uint8)
    of_keras = {layer.name: layer for layer in classifier.model.layers}

    assert set(served.names) <= set(of_keras)
    parametric = {layer.name for layer in classifier.model.layers if layer.weights}
    assert parametric <= set(served.names)
    network = keras.Model(classifier.model.input, [of_keras[name].output for name in served.names])
    prepared = classifier.backbone.preprocess(images.astype(np.float32))
    wanted = dict(zip(served.names, network(prepared, training=False), strict=True))
    for name, values in served.compute(images, served.names).items():
        np.testing.assert_allclose(values, np.asarray(wanted[name]), rtol=2e-3, atol=2e-4, err_msg=name)
    found = served.prepare(images[0])
    assert found is not None
    np.testing.assert_allclose(found.values, np.asarray(prepared)[0], atol=1e-4)
    filters = served.filters()
    assert filters is not None
    first = of_keras[filters.layer]
    kernel = next(w for w in first.weights if w.path.endswith("kernel"))
    np.testing.assert_allclose(filters.kernel, np.asarray(kernel), atol=1e-6)


@pytest.fixture(name="shown", scope="module")
def fixture_shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A store of one straight network, an image and its page."""
    folder = tmp_path_factory.mktemp("show")
    store = ModelStore(folder / "models")
    keras.backend.clear_session()
    classifier, _ = publish(store, "net", NETWORKS["straight"])
    image = folder / "green.png"
    image.write_bytes(png((20, 200, 40)))
    status = main(["show", str(image), f"--models-dir={store.root}", f"--out={folder / 'page.html'}", "--top=2"])
    return {"store": store, "classifier": classifier, "image": image, "status": status, "page": folder / "page.html"}


def test_page_has_the_networks_numbers(shown: dict[str, Any]) -> None:
    """Classes, prepared input, filters, feature maps and saliency, all inside one file."""
    page, model = Page(shown["page"]), shown["classifier"].model
    served = ServedLayers(shown["store"].version_path("net", 1))
    contract = shown["store"].read_contract("net", 1)
    pixels = decode_image(shown["image"].read_bytes(), contract.input)[None]

    assert 0 == shown["status"]
    assert all(source.startswith("data:image/") for _, source in page.pictures)
    best = sorted(served.probabilities(pixels)[0])[::-1]
    for value in best[:2]:
        assert f"{value:.4f}" in page.text
    assert f"{best[2]:.4f}" not in page.text
    assert "2 of 3, the most probable first." in page.text
    kernel = np.asarray(model.get_layer("conv2d").kernel)
    for i in (0, 31):
        np.testing.assert_array_equal(stretched(kernel[..., 0, i]), page.drawn(f"filter {i}")[0])
    assert ["conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1"] == re.findall(
        r"channel of (\S+)", "\n".join(dict.fromkeys(alt for alt, _ in page.pictures))
    )
    assert 32 == len(page.drawn("channel of conv2d_1"))
    assert 1 == len([alt for alt, _ in page.pictures if alt.startswith("saliency of ")])
    assert "Channel 0: " in page.text


def test_chosen_layers_are_drawn_in_their_order(shown: dict[str, Any], tmp_path: Path) -> None:
    """A dense layer is drawn as one picture of its numbers."""
    out = tmp_path / "page.html"
    argv = ["show", str(shown["image"]), "--model=net/1", f"--models-dir={shown['store'].root}", f"--out={out}"]

    assert 0 == main([*argv, "--layers", "logits, conv2d,logits"])

    page = Page(out)
    assert ["numbers of logits", "channel of conv2d"] == list(
        dict.fromkeys(alt for alt, _ in page.pictures if " of " in alt and alt.split()[0] in ("numbers", "channel"))
    )[-2:]
    assert (1, 3) == page.drawn("numbers of logits")[0].shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--layers=conv2"], "Received: 'conv2'; did you mean conv2d?", id="near"),
        pytest.param(["--layers=zzz"], "layers of conv2d, max_pooling2d, conv2d_1, max_pooling2d_1,", id="list"),
        pytest.param(["--model=nett"], "did you mean net?", id="model"),
        pytest.param(["--model=net/7"], "Received: '7'", id="version"),
        pytest.param(["--out=/no/such/page.html"], "its folder does not exist", id="out"),
    ],
)
def test_errors_name_what_there_is(
    shown: dict[str, Any], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit status 1."""
    folder = shown["image"].parent
    argv = ["show", str(shown["image"]), f"--models-dir={shown['store'].root}", f"--out={folder / 'other.html'}"]

    assert 1 == main([*argv, *arguments])

    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "other.html").exists()


@pytest.mark.parametrize("contents", [b"", b"no image", png()[:60]], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_image_is_refused(
    shown: dict[str, Any], contents: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the service's reason and the file's name."""
    path = tmp_path / "broken.png"
    path.write_bytes(contents)

    assert 1 == main(["show", str(path), f"--models-dir={shown['store'].root}", f"--out={tmp_path / 'page.html'}"])

    assert "broken.png: " in capsys.readouterr().err.splitlines()[-1]


def test_a_network_of_another_make_is_shown(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Keras, convolutions or scopes: its operations are its layers."""
    image = tmp_path / "red.png"
    image.write_bytes(png((200, 20, 20)))
    monkeypatch.chdir(tmp_path)

    assert 0 == main(["show", "red.png", "--model=colours", f"--models-dir={store.root}"])

    page = Page(tmp_path / "red.html")
    assert "The network has no convolution." in page.text
    assert "Mean" in page.text[page.text.index("layers that --layers takes") :]
    assert 1 == len(page.drawn("saliency of Red"))


def test_default_layers_are_spread(shown: dict[str, Any]) -> None:
    """From the first to the last that gives feature maps, each once."""

    class Network:
        names = ("a", "b", "c", "d", "e", "f", "g", "dense")
        maps = names[:-1]

    assert ["a", "c", "e", "g"] == choose_layers(Network(), [])  # type: ignore[arg-type]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_no_horizontal_scrolling(shown: dict[str, Any], width: int) -> None:
    """On a phone, too, the page is as wide as the screen."""
    scroll_width, client_width, height = measure_page(shown["page"], width=width)

    assert scroll_width == client_width <= width
    assert 500 < height
