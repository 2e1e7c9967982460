"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import json_format
from starlette.testclient import TestClient

from contract.store import ModelStore
from contract.tensors import get_model_status_pb2
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready
from tests.service.gateway.inference.test_versions import wait_for_label

FULL = {"accept": "application/vnd.fovea+json"}


def test_model_is_described_with_states_labels_and_contract(client: TestClient, backend: ScriptedBackend) -> None:
    """Fovea's own document has labels and contract beside the states."""
    contract = backend.versions["colours", 1].contract
    status = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
        "labels": ["live"],
        "contract": contract.sha256,
        "precision": "float32",
    }
    expected = {
        "name": "colours",
        "labels": {"live": 1},
        "model_version_status": [status],
        "contract": dict(contract.document),
    }

    reply = client.get("/v1/models/colours", headers=FULL)
    assert expected == reply.json()
    assert ("application/vnd.fovea+json", "accept") == (reply.headers["content-type"], reply.headers["vary"])


@pytest.mark.parametrize("path", ["", "/versions/2", "/labels/candidate"])
@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html, */*;q=0.8", "nonsense"])
def test_status_parses_as_tensorflow_servings_message(
    client: TestClient, backend: ScriptedBackend, index: ModelStore, path: str, accept: str | None
) -> None:
    """Without Fovea's type the document is a GetModelStatusResponse for protobuf's strict parser, failures included."""
    backend.versions["colours", 2] = scripted(state="END", error_code=13)
    publish_empty(index, live=False)
    wait_for_label(client, "candidate", 2)
    headers = {} if accept is None else {"accept": accept}

    reply = client.get(f"/v1/models/colours{path}", headers=headers)

    status = json_format.Parse(reply.text, get_model_status_pb2.GetModelStatusResponse())
    states = {entry.version: (entry.state, entry.status.error_code) for entry in status.model_version_status}
    assert states == ({2: (50, 13)} if path else {2: (50, 13), 1: (30, 0)})
    assert ("application/json", "accept") == (reply.headers["content-type"], reply.headers["vary"])
    if not path:
        ok = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        assert ok == reply.json()["model_version_status"][1]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/vnd.fovea+json", True),
        ("Application/Vnd.Fovea+JSON; q=0.9, application/json;q=0.5", True),
        ("application/vnd.fovea+json, */*;q=0.1", True),
        ("application/json, application/vnd.fovea+json;q=0.5", False),
        ("application/vnd.fovea+json;q=0", False),
        ("application/json;q=0.5, application/*;q=0.8", True),
        ("text/html | application/vnd.fovea+json", True),
        ("application/vnd.fovea+json;q=0.2 | application/json", False),
    ],
)
def test_the_accept_header_decides(client: TestClient, accept: str, expected: bool) -> None:
    """Qualities are compared as RFC 9110 has them; several headers, here between bars, are one list."""
    document = client.get("/v1/models/colours", headers=[("accept", value) for value in accept.split(" | ")]).json()
    assert expected == ("contract" in document)


def test_versions_that_are_loading_failed_or_gone_are_told_apart(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Failures stay visible, what was unloaded on purpose does not, and no text of the model server is passed on."""
    backend.versions["colours", 2] = scripted(state="END", error_code=13)
    backend.versions["colours", 3] = scripted(state="END")
    backend.versions["colours", 4] = scripted(state="LOADING")
    publish_empty(index)
    states = {item["version"]: item for item in client.get("/v1/models/colours").json()["model_version_status"]}

    assert {"4": "LOADING", "2": "END", "1": "AVAILABLE"} == {v: item["state"] for v, item in states.items()}
    assert "INTERNAL" == states["2"]["status"]["error_code"]
    assert states["2"]["status"]["error_message"].startswith("the version failed to load")


def test_list_has_every_model(client: TestClient, index: ModelStore) -> None:
    """Models are listed by name, those that the model server does not know yet included."""
    publish_empty(index, "another")
    models = {model["name"]: model for model in wait_for_models(client, 2)}

    assert ["another", "colours"] == list(models)
    assert "UNKNOWN" == models["another"]["model_version_status"][0]["state"]
    assert "AVAILABLE" == models["colours"]["model_version_status"][0]["state"]


@pytest.mark.parametrize("source", ["store", "names"])
def test_models_are_described_while_the_model_server_is_away(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, source: str
) -> None:
    """The index is known without it; states are UNKNOWN then."""
    served = {"models_dir": index.root} if source == "store" else {"models": ("colours",)}
    client = start_gateway(backend=backend.address, **served)
    wait_until_ready(client)
    backend.status_fault = grpc.StatusCode.UNAVAILABLE
    backend.versions["colours", 1].describe_fault = grpc.StatusCode.UNAVAILABLE
    reply = client.get("/v1/models/colours")
    states = [item["state"] for item in reply.json()["model_version_status"]]

    assert 200 == reply.status_code
    assert states in (["UNKNOWN"], [])


def test_contract_is_null_while_live_is_not_loaded(client: TestClient, index: ModelStore) -> None:
    """A version that the model server does not have cannot tell its contract."""
    publish_empty(index)
    while (reply := client.get("/v1/models/colours", headers=FULL).json())["labels"] != {"live": 2, "previous": 1}:
        continue

    assert reply["contract"] is None
    assert [None] == [item["contract"] for item in reply["model_version_status"] if item["version"] == "2"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("other", 404, "model_not_found"), ("x" * 65, 422, "invalid_value")],
    ids=["unknown", "too-long"],
)
def test_unknown_model_is_404(client: TestClient, name: str, status: int, code: str) -> None:
    """Names that nothing has are refused."""
    reply = client.get(f"/v1/models/{name}")

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])


def wait_for_models(client: TestClient, count: int) -> list[dict[str, object]]:
    """Return the list once it has so many models."""
    for _ in range(1000):
        models: list[dict[str, object]] = client.get("/v1/models").json()["models"]
        if len(models) == count:
            return models
    raise TimeoutError(count)


def test_one_version_is_described_by_number_or_label(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """As TensorFlow Serving does: model_version_status with one entry; the contract is that version's."""
    backend.versions["colours", 2] = scripted("permuted")
    publish_empty(index, live=False)
    wait_for_label(client, "candidate", 2)
    by_number = client.get("/v1/models/colours/versions/2", headers=FULL)
    by_label = client.get("/v1/models/colours/labels/candidate", headers=FULL)

    assert by_number.json() == by_label.json()
    assert ["2"] == [state["version"] for state in by_number.json()["model_version_status"]]
    assert dict(backend.versions["colours", 2].contract.document) == by_number.json()["contract"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("versions/9", 404, "version_not_found"),
        ("labels/stable", 404, "label_not_found"),
        ("versions/0", 422, "invalid_value"),
        ("versions/01", 422, "invalid_value"),
        ("versions/" + "9" * 30, 422, "invalid_value"),
    ],
)
def test_a_version_that_is_not_there_is_404(client: TestClient, path: str, status: int, code: str) -> None:
    """Fovea's own error bodies."""
    reply = client.get(f"/v1/models/colours/{path}")

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize("path", ["colours:predict", "colours/versions/1:predict", "colours/labels/live:predict"])
def test_predict_is_not_read_by_get(client: TestClient, path: str) -> None:
    """405 with what is allowed, rather than an unknown model of that name."""
    reply = client.get(f"/v1/models/{path}")

    assert (405, "POST") == (reply.status_code, reply.headers["allow"])
