"""A foreign SavedModel, imported: the whole API answers for it, explanations excepted."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import numpy as np
import pytest

from contract.image import decode_image
from contract.model import InputSpec
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.odd_images import picture, write
from tests.helpers.server_process import ROOT

LABELS = ["cat", "dog", "owl"]
SIZE = 12
WRITE = """
import sys
from pathlib import Path
import numpy as np
from tests.helpers.foreign_models import expected, write_model
write_model(Path(sys.argv[1]))
np.save(sys.argv[3], expected(np.load(sys.argv[2])))
"""


@pytest.fixture(name="imported", scope="module")
def fixture_imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx2.Client, np.ndarray]]:
    """A client of the service that serves an imported model, and what the model must answer to `picture()`."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    pixels = decode_image(write(picture(), "PNG"), InputSpec(SIZE, SIZE))[None]
    np.save(folder / "in.npy", pixels)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # In a process of its own: TensorFlow stays out of this one.
    command = [sys.executable, "-c", WRITE, *(str(folder / name) for name in ("foreign", "in.npy", "out.npy"))]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300, capture_output=True)
    models = f"--models-dir={folder / 'models'}"
    command = [sys.executable, "-m", "pipeline", "import", str(folder / "foreign"), "--name=pets", models]
    command.append(f"--labels={folder / 'labels.txt'}")
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300, capture_output=True)
    service = ServiceProcess(["up", "--port=0", models], folder)
    try:
        url = service.wait_for_url()
        service.wait_until_ready(url)
        with httpx2.Client(base_url=url, timeout=60) as client:
            yield client, np.load(folder / "out.npy")[0]
    finally:
        assert 0 == service.stop()


def test_it_classifies_pictures_by_name(imported: tuple[httpx2.Client, np.ndarray]) -> None:
    """Its own numbers under the names that were given; no warnings and decisions, for which it has nothing."""
    client, expected = imported
    reply = client.post("/v1/predict", content=write(picture(), "PNG"), params={"top": 3}).raise_for_status().json()

    (entry,) = reply["predictions"]
    actual = [item["probability"] for item in sorted(entry["top"], key=lambda item: item["index"])]
    assert np.abs(expected - actual).max() < 1e-5
    assert LABELS[int(expected.argmax())] == entry["top"][0]["label"]
    assert ([], False) == (entry["warnings"], "decision" in entry)


def test_tensorflow_servings_clients_get_its_numbers(imported: tuple[httpx2.Client, np.ndarray]) -> None:
    """In rows of encoded images and in columns of numbers."""
    client, expected = imported
    data = write(picture(), "PNG")
    pixels = decode_image(data, InputSpec(SIZE, SIZE)).tolist()
    rows = {"instances": [{"b64": base64.b64encode(data).decode()}]}
    columns = {"inputs": {"images": [pixels]}}
    by_row = client.post("/v1/models/pets:predict", json=rows).raise_for_status().json()
    by_column = client.post("/v1/models/pets/versions/1:predict", json=columns).raise_for_status().json()

    assert np.abs(expected - by_row["predictions"][0]).max() < 1e-5
    assert np.abs(expected - by_column["outputs"][0]).max() < 1e-5


def test_it_is_described_and_ready(imported: tuple[httpx2.Client, np.ndarray]) -> None:
    """Readiness, its states, its contract, its signatures."""
    client, _ = imported
    accept = {"accept": "application/vnd.fovea+json"}
    described = client.get("/v1/models/pets", headers=accept).raise_for_status().json()
    signatures = client.get("/v1/models/pets/labels/live/metadata").raise_for_status().json()

    assert {"pets": 1} == client.get("/readyz").json()["models"]
    assert LABELS == [label["name"] for label in described["contract"]["labels"]]
    assert {"serving_default", "describe"} == signatures["metadata"]["signature_def"]["signature_def"].keys()


def test_it_says_that_it_cannot_explain(imported: tuple[httpx2.Client, np.ndarray]) -> None:
    """422 with a code of its own, for numbers and pictures alike."""
    client, _ = imported
    for accept in ("application/json", "image/png"):
        reply = client.post("/v1/explain", content=write(picture(), "PNG"), headers={"accept": accept})
        assert (422, "no_explanation") == (reply.status_code, reply.json()["error"]["code"])
