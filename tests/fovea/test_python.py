"""The Python API: a loaded version answers as the service does, and results show themselves in a notebook."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea
from contract.errors import StoreError
from contract.image import decode_image
from contract.model import InputSpec
from contract.store import ModelStore
from fovea.local import _read
from service.results import EmbedResult
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.helpers.tiny_model import publish_variant


@pytest.fixture(scope="module")
def tiny_store(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store in which `colours` has version 1 as previous and 2, with other labels, as live."""
    store = ModelStore(tmp_path_factory.mktemp("python") / "models")
    publish_variant(store, tiny_models["plain"])
    publish_variant(store, tiny_models["embedding"])
    return store


@pytest.fixture(scope="module")
def url(tiny_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service answers with that store."""
    process = ServiceProcess(
        ["up", f"--models-dir={tiny_store.root}", "--port=0", "--precision=float32"], tmp_path_factory.mktemp("up")
    )
    try:
        address = process.wait_for_url(timeout_s=120)
        process.wait_until_ready(address)
        yield address
    finally:
        process.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Paths of a picture of each colour, and of one that is broken."""
    paths = [tmp_path / f"{name}.png" for name in (*COLOURS, "broken")]
    for path in paths:
        path.write_bytes(truncated_jpeg() if path.stem == "broken" else encode(path.stem))
    return paths


def test_a_loaded_version_answers_as_the_service_does(tiny_store: ModelStore, url: str, pictures: list[Path]) -> None:
    """The same names, classes, probabilities, refusals and JSON, from the same files."""
    with fovea.load("colours", models_dir=tiny_store.root, precision="float32") as model, fovea.Client(url) as client:
        here, there = model.predict(list(pictures), top=2), client.predict(pictures, top=2)

    assert there.predictions == here.predictions
    assert (there.model, there.version, there.contract) == (here.model, here.version, here.contract)
    ours, theirs = dict(here.document), dict(there.document)
    assert ours.pop("request_id") != theirs.pop("request_id")
    assert json.dumps(theirs, sort_keys=True) == json.dumps(ours, sort_keys=True)


def test_a_loaded_version_embeds_as_the_service_does(tiny_store: ModelStore, url: str, pictures: list[Path]) -> None:
    """The same names, vectors, refusals and JSON; plain and awaited clients alike."""

    async def ask() -> EmbedResult:
        async with fovea.AsyncClient(url) as client:
            return await client.embed(pictures)

    with fovea.load("colours", models_dir=tiny_store.root, precision="float32") as model, fovea.Client(url) as client:
        here, there = model.embed(list(pictures)), client.embed(pictures)

    assert there.embeddings == here.embeddings == asyncio.run(ask()).embeddings
    assert (3, 3, 4) == (here.dimension, len(here.vectors), len(here.embeddings))
    assert ((), "undecodable_image") == (here.embeddings[3].vector, here.embeddings[3].error_code)
    ours, theirs = ({**result.document, "request_id": ""} for result in (here, there))
    assert json.dumps(theirs, sort_keys=True) == json.dumps(ours, sort_keys=True)


def test_a_version_without_embeddings_says_so(tiny_store: ModelStore, url: str, pictures: list[Path]) -> None:
    with fovea.load("colours/1", models_dir=tiny_store.root) as model, fovea.Client(url) as client:
        with pytest.raises(ValueError, match="colours version 1 has no embeddings"):
            model.embed(pictures[0])
        with pytest.raises(fovea.Error, match="colours version 1 has no embeddings"):
            client.embed(pictures[0], version=1)


def test_one_image_is_taken_as_well_as_several(tiny_store: ModelStore, url: str, pictures: list[Path]) -> None:
    """A path, text or bytes, by both."""
    with fovea.load("colours", models_dir=tiny_store.root) as model, fovea.Client(url) as client:
        for image in (pictures[0], str(pictures[0]), pictures[0].read_bytes()):
            for ask in (model.predict, client.predict):
                (prediction,) = ask(image).predictions
                assert prediction.top[0].id == pictures[0].stem


def test_pixels_are_read_as_a_file_of_them_is(tiny_store: ModelStore, pictures: list[Path]) -> None:
    """Pillow images and arrays."""
    picture = Image.open(pictures[1])
    with fovea.load("colours/1", models_dir=tiny_store.root) as model:
        from_file, from_image, from_array = model.predict([pictures[1], picture, np.asarray(picture)]).predictions

    assert from_file.top == from_image.top == from_array.top
    assert (1, "colours") == (model.version, model.name)


def test_turned_pictures_and_those_of_print_are_read_as_their_files_are() -> None:
    """A camera's JPEG that is to be turned; a CMYK picture."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter to the right
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=turned)
    spec = InputSpec(16, 16, 3, "rgb")
    read = decode_image(_read(Image.open(file), 0)[1], spec)
    printed = decode_image(_read(Image.fromarray(pixels).convert("CMYK"), 0)[1], spec)

    assert np.array_equal(decode_image(file.getvalue(), spec), read)
    assert read[:, 0].max() < 10 and read[:, -1].min() > 245
    assert printed[0].min() > 245 and printed[-1].max() < 10


def test_many_images_keep_their_order(tiny_store: ModelStore, pictures: list[Path]) -> None:
    """More than fit into a batch, refused ones between them."""
    several = [*pictures, *pictures] * 9
    with fovea.load("colours", models_dir=tiny_store.root) as model:
        predictions = model.predict(several).predictions

    assert [path.name for path in several] == [prediction.name for prediction in predictions]
    for path, prediction in zip(several, predictions, strict=True):
        assert prediction.error_code if path.stem == "broken" else prediction.top[0].id == path.stem


def test_mistakes_are_named(tiny_store: ModelStore, tmp_path: Path) -> None:
    """An unknown model, a missing file, no images, no classes."""
    with pytest.raises(StoreError, match="did you mean colours"):
        fovea.load("colour", models_dir=tiny_store.root)
    with fovea.load("colours", models_dir=tiny_store.root) as model:
        with pytest.raises(FileNotFoundError):
            model.predict(tmp_path / "none.png")
        with pytest.raises(ValueError, match="images: expected at least one"):
            model.predict([])
        with pytest.raises(ValueError, match=r"top: expected at least 1\. Received: 0"):
            model.predict(b"", top=0)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        fovea.trian  # noqa: B018
    with pytest.raises(Exception, match="no such file or folder"):
        fovea.train(tmp_path / "none")


class Cells(HTMLParser):
    """Collects the texts of a table's cells."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read_cells(html: str) -> list[str]:
    """Return the texts of a table whose tags are closed in order."""
    parser = Cells()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser.texts


def test_results_are_tables_in_a_notebook(tiny_store: ModelStore, pictures: list[Path]) -> None:
    """Names are text there, whatever is in them."""
    hostile = pictures[0].rename(pictures[0].with_name("<script>&.png"))
    with fovea.load("colours", models_dir=tiny_store.root) as model:
        about, result = read_cells(model._repr_html_()), model.predict([hostile, pictures[-1]])
    cells = read_cells(result._repr_html_())

    assert ["colours version 2", "classes", "Red, Blue, Green"] == about[:3]
    assert {"colours version 2", "<script>&.png", COLOURS[0].capitalize(), "broken.png"} <= set(cells)
    assert any(text.startswith("refused: ") for text in cells)
    assert "<script>" not in result._repr_html_()


def test_explanations_show_themselves_too(url: str, pictures: list[Path]) -> None:
    """A heat map is a picture, numbers are a table."""
    with fovea.Client(url) as client:
        heat_map, result = client.heat_map(pictures[0]), client.explain(pictures[0])

    assert heat_map._repr_png_().startswith(b"\x89PNG\r\n")
    assert "red.png" in read_cells(result._repr_html_())
