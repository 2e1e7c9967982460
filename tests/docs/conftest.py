"""Fixtures: a folder with a published model and images, and one service of it for the pages that start none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.model import ModelContract, canonical_json
from contract.store import CONTRACT_FILE, ModelStore
from tests.docs.reader import Reader
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.image_sets import color_files, write_files

LABELS = {"blue": "glaucoma", "green": "normal", "red": "suspect"}

NewReader = Callable[..., Reader]


@pytest.fixture(name="models", scope="module")
def fixture_models(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which `eyes` has version 1 as previous and 2 as live, with the labels that the pages use."""
    store = ModelStore(tmp_path_factory.mktemp("docs") / "models")
    for variant in ("plain", "permuted"):
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


@pytest.fixture(name="served", scope="module")
def fixture_served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a service with feedback, for all pages that only ask."""
    folder = tmp_path_factory.mktemp("served")
    process = ServiceProcess(["up", "--port=0", f"--models-dir={models}", f"--feedback-dir={folder / 'kept'}"], folder)
    try:
        url = process.wait_for_url()
        process.wait_until_ready(url)
        yield url.removeprefix("http://")
    finally:
        process.stop()


@pytest.fixture(name="new_reader")
def fixture_new_reader(tmp_path: Path) -> Iterator[NewReader]:
    """A function that gives a reader a folder with images in it, and stops what it starts."""
    readers: list[Reader] = []

    def build(models: Path | None = None, address: str | None = None) -> Reader:
        folder = tmp_path / f"project{len(readers)}"
        folder.mkdir()
        write_pictures(folder)
        if models is not None:
            shutil.copytree(models, folder / "models")
        readers.append(Reader(folder, address))
        return readers[-1]

    yield build
    for reader in readers:
        reader.stop()


def write_pictures(folder: Path) -> None:
    """Write the pictures that the pages name."""
    for number, name in enumerate(("eye.jpg", "left.jpg", "right.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def write_image_set(folder: Path) -> None:
    """Write a folder of images in classes with a test part, as `eyes`."""
    write_files(folder / "eyes", color_files(train=12, test=12))


def read_json(path: Path) -> object:
    """Return a JSON file."""
    return json.loads(path.read_text())
