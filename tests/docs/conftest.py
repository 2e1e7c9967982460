"""Fixtures: a folder with a published model and images, and one service of it for the pages that start none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.model import ModelContract, canonical_json
from contract.store import CONTRACT_FILE, ModelStore
from tests.docs.blocks import DOCS, read_blocks
from tests.docs.reader import Reader
from tests.helpers.image_sets import color_files, write_files

LABELS = {"blue": "glaucoma", "green": "normal", "red": "suspect"}

NewReader = Callable[..., Reader]


@pytest.fixture(name="models", scope="module")
def fixture_models(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which `eyes` has version 1 as previous and 2 as live, with the labels that the pages use."""
    store = ModelStore(tmp_path_factory.mktemp("docs") / "models")
    for variant in ("plain", "embedding"):
        with store.staging() as directory:
            shutil.copytree(tiny_models[variant], directory, dirs_exist_ok=True)
            relabel(directory / CONTRACT_FILE)
            store.publish("eyes", directory, live=True)
    return store.root


def relabel(path: Path) -> None:
    """Give the colours the names of findings."""
    document = dict(ModelContract.from_json(path.read_bytes()).document)
    document["labels"] = [{"id": LABELS[item["id"]], "name": LABELS[item["id"]]} for item in document["labels"]]
    path.write_text(canonical_json(document))


@pytest.fixture(name="visitor", scope="module")
def fixture_visitor(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader for all pages that only ask, beside a service that was started as watch.md says."""
    reader = build_reader(tmp_path_factory.mktemp("visitor"), models)
    try:
        reader.follow([block for block in read_blocks(DOCS / "watch.md") if block.mark == "server"])
        reader.wait_for("/v1/predict?model=eyes&version=1", (reader.folder / "eye.jpg").read_bytes())
        yield reader
    finally:
        reader.stop()


@pytest.fixture(name="new_reader")
def fixture_new_reader(tmp_path: Path) -> Iterator[NewReader]:
    """A function that gives a reader a folder with images in it, and stops what it starts."""
    readers: list[Reader] = []

    def build(models: Path | None = None) -> Reader:
        folder = tmp_path / f"project{len(readers)}"
        folder.mkdir()
        readers.append(build_reader(folder, models))
        return readers[-1]

    yield build
    for reader in readers:
        reader.stop()


def build_reader(folder: Path, models: Path | None) -> Reader:
    """Return a reader whose folder has pictures and, if one is given, a copy of a store."""
    write_pictures(folder)
    if models is not None:
        shutil.copytree(models, folder / "models")
    return Reader(folder)


def write_pictures(folder: Path) -> None:
    """Write the pictures that the pages name."""
    for number, name in enumerate(("eye.jpg", "left.jpg", "right.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def write_image_set(folder: Path) -> None:
    """Write images of patients in folders of classes, with a test part, as `eyes`."""
    patients: dict[str, str] = {}
    files = {}
    for name, data in color_files(train=12, test=12).items():
        path, file = name.rsplit("/", 1)
        patient, rest = file.split("_")
        files[f"{path}/{patients.setdefault(patient, f'P{len(patients):04}')}_{rest}"] = data
    write_files(folder / "eyes", files)
