"""A store that Fovea 0.1.0 wrote is served as then, and goes on living."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fovea
from contract.store import ModelStore
from service.client import FoveaClient, FoveaError
from tests.helpers.fixtures import FIXTURES
from tests.helpers.gateway_process import ServiceProcess, predict

NAME = "glaucoma"
TOLERANCE = 1e-4  # of a probability, between processors at float32


@dataclass(frozen=True)
class OldStore:
    """The fixture's files, unpacked.

    Attributes:
        store: the model store.
        images: the pictures, bytes by file name.
        predictions: by "FILE VERSION": contract hash, probabilities by label id, warnings.
    """

    store: ModelStore
    images: dict[str, bytes]
    predictions: dict[str, tuple[str, dict[str, float], list[str]]]


@pytest.fixture(name="old", scope="module")
def fixture_old(tmp_path_factory: pytest.TempPathFactory) -> OldStore:
    """The store of the fixture in a folder of its own."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(FIXTURES / "store-0.1.0.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    images = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    return OldStore(ModelStore(folder / "models"), images, json.loads((folder / "predictions.json").read_text()))


@pytest.fixture(name="url", scope="module")
def fixture_url(old: OldStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The store behind `python -m service up`, at float32."""
    arguments = ["up", "--port", "0", "--models-dir", str(old.store.root), "--precision", "float32"]
    service = ServiceProcess(arguments, tmp_path_factory.mktemp("served"))
    try:
        url = service.wait_for_url()
        service.wait_until_ready(url)
        yield url
    finally:
        assert service.stop() == 0


def test_answers_are_those_of_the_release_that_wrote_it(old: OldStore, url: str) -> None:
    assert len(old.predictions) == 8
    for name, (contract, probabilities, warnings) in old.predictions.items():
        file, version = name.split()
        reply = predict(url, old.images[file], model=NAME, version=version)
        assert reply.status_code == 200, reply.text
        document: dict[str, Any] = reply.json()
        entry = document["predictions"][0]
        assert document["model"] == {
            "name": NAME,
            "version": int(version),
            "contract": contract,
            "precision": "float32",
        }
        assert {top["id"]: top["probability"] for top in entry["top"]} == pytest.approx(probabilities, abs=TOLERANCE)
        assert entry["warnings"] == warnings


def test_it_has_no_embeddings_and_says_so(old: OldStore, url: str) -> None:
    """Its versions lack the signature; the route, the client and the Python API name the version."""
    image = next(iter(old.images.values()))
    with FoveaClient(url) as client, pytest.raises(FoveaError, match=f"{NAME} version 1 has no embeddings") as refused:
        client.embed(image, version=1)
    assert (422, "no_embedding") == (refused.value.status_code, refused.value.code)
    with (
        fovea.load(f"{NAME}/1", models_dir=old.store.root) as model,
        pytest.raises(ValueError, match=f"{NAME} version 1 has no embeddings"),
    ):
        model.embed(image)


def test_its_candidate_can_be_promoted_and_rolled_back(old: OldStore, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    shutil.copytree(old.store.root, store.root)
    assert store.promote(NAME).live == 2
    assert store.rollback(NAME).live == 1
