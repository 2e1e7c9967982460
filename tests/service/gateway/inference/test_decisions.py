"""Operating points and the warning about pictures of another kind, in replies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from contract.model import ModelContract
from contract.novelty import STATISTICS, measure_images
from contract.store import ModelStore
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, ScriptedVersion
from tests.helpers.tiny_model import VARIANTS, build_contract, build_image
from tests.service.gateway.conftest import StartGateway, wait_until_ready

POINTS = [
    {"label": "red", "threshold": 0.5, "sensitivity": 0.95, "specificity": 0.81},
    {"label": "blue", "threshold": 0.25, "sensitivity": 0.9, "specificity": 0.7},
    {"label": "red", "threshold": 0.9999, "sensitivity": 0.5, "specificity": 0.99},
]


def like(colour: str) -> dict[str, Any]:
    """Return a baseline that knows pictures of one colour."""
    center = measure_images(build_image(colour, 16)[None])[0]
    return {
        "rule": 1,
        "center": center.tolist(),
        "whitening": (10 * np.eye(len(STATISTICS[3]))).tolist(),
        "threshold": 2.0,
    }


@pytest.fixture(name="judging")
def fixture_judging(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> TestClient:
    """A gateway whose model has operating points, and was trained on red pictures."""
    document = {
        **build_contract(VARIANTS["plain"]).document,
        "operating_points": POINTS,
        "baseline": {**like("red"), "false_alarms": {"wanted": 0.01}},
    }
    backend.versions["colours", 1] = ScriptedVersion(ModelContract.from_document(document))
    gateway = start_gateway(backend=backend.address, models_dir=index.root)
    wait_until_ready(gateway)
    return gateway


@pytest.mark.parametrize("route", ["predict", "explain"])
def test_each_operating_point_is_applied_in_the_contracts_order(judging: TestClient, route: str) -> None:
    """Also for classes that are not in top; what the threshold reached stands beside it."""
    reply = judging.post(f"/v1/{route}", params={"top": 1}, content=encode("red")).json()
    (entry,) = reply["predictions" if route == "predict" else "explanations"]

    assert ["red", "blue", "red"] == [item["id"] for item in entry["decision"]]
    assert [True, False, False] == [item["called"] for item in entry["decision"]]
    for point, item in zip(POINTS, entry["decision"], strict=True):
        assert {key: point[key] for key in ("threshold", "sensitivity", "specificity")}.items() <= item.items()
        assert item["called"] == (item["probability"] >= item["threshold"])
    assert entry["decision"][0]["label"] == "Red"
    assert entry["decision"][0]["probability"] == entry["top"][0]["probability"]


def test_a_model_without_operating_points_decides_nothing(client: TestClient) -> None:
    """The field is absent, not empty."""
    (entry,) = client.post("/v1/predict", content=encode("red")).json()["predictions"]

    assert "decision" not in entry
    assert [] == entry["warnings"]


@pytest.mark.parametrize("route", ["predict", "explain"])
def test_pictures_of_another_kind_are_warned_of_and_classified_all_the_same(judging: TestClient, route: str) -> None:
    """Each image for itself; a file that cannot be read has its error."""
    files = [("file", (name, encode(name))) for name in ("red", "blue", "green")]
    files.append(("file", ("text", b"text")))
    reply = judging.post(f"/v1/{route}", files=files).json()
    entries = reply["predictions" if route == "predict" else "explanations"]

    unlike = ["unlike_training_images"]
    assert [[], unlike, unlike, []] == [entry["warnings"] for entry in entries]
    assert ["red", "blue", "green"] == [entry["top"][0]["id"] for entry in entries[:3]]
    assert "error" in entries[3]
