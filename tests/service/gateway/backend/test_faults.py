"""Replies to clients when the model server misbehaves."""

from __future__ import annotations

import logging
from typing import Any

import grpc
import numpy as np
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.backend.call_errors import translate_error
from service.gateway.context.errors import GatewayError
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import Answer, ScriptedBackend, scripted
from tests.service.gateway.conftest import StartGateway, wait_until_ready

MEANINGS = {
    "CANCELLED": (503, "model_server_unreachable"),
    "UNKNOWN": (502, "model_server_broke_contract"),
    "INVALID_ARGUMENT": (502, "model_server_broke_contract"),
    "DEADLINE_EXCEEDED": (504, "deadline_exceeded"),
    "NOT_FOUND": (503, "model_not_ready"),
    "ALREADY_EXISTS": (502, "model_server_broke_contract"),
    "PERMISSION_DENIED": (502, "model_server_broke_contract"),
    "RESOURCE_EXHAUSTED": (503, "overloaded"),
    "FAILED_PRECONDITION": (502, "model_server_broke_contract"),
    "ABORTED": (503, "model_server_unreachable"),
    "OUT_OF_RANGE": (502, "model_server_broke_contract"),
    "UNIMPLEMENTED": (502, "model_server_broke_contract"),
    "INTERNAL": (502, "model_server_broke_contract"),
    "UNAVAILABLE": (503, "model_server_unreachable"),
    "DATA_LOSS": (502, "model_server_broke_contract"),
    "UNAUTHENTICATED": (502, "model_server_broke_contract"),
}


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_every_grpc_status_has_a_meaning(code: grpc.StatusCode) -> None:
    """No status that gRPC knows, or comes to know, is unmapped."""
    assert isinstance(translate_error(code), GatewayError)


@pytest.mark.parametrize("name", MEANINGS)
def test_fault_of_the_model_server_has_its_status_and_code(
    client: TestClient, backend: ScriptedBackend, name: str
) -> None:
    """A real failed call becomes the documented reply, without the model server's own text."""
    backend.versions["colours", 1].fault = grpc.StatusCode[name]
    reply = client.post("/v1/predict", content=encode("red"))

    assert MEANINGS[name] == (reply.status_code, reply.json()["error"]["code"])
    assert (reply.status_code == 503) == ("retry-after" in reply.headers)
    assert "secret" not in reply.text


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda images: np.full((len(images), 3), np.nan, np.float32), id="nan"),
        pytest.param(lambda images: np.full((len(images), 3), np.inf, np.float32), id="infinity"),
        pytest.param(lambda images: np.full((len(images), 3), 0.9, np.float32), id="sum-not-1"),
        pytest.param(lambda images: np.full((len(images), 2), 0.5, np.float32), id="too-few-classes"),
        pytest.param(lambda images: np.full((len(images), 4), 0.25, np.float32), id="too-many-classes"),
        pytest.param(lambda images: np.full((len(images) + 1, 3), 1 / 3, np.float32), id="too-many-rows"),
        pytest.param(lambda images: np.zeros((0, 3), np.float32), id="no-rows"),
        pytest.param(lambda images: np.full(3, 1 / 3, np.float32), id="one-dimension"),
        pytest.param(lambda images: np.float32(1), id="scalar"),
        pytest.param(lambda images: np.full((len(images), 3), 1, np.int32), id="integers"),
        pytest.param(lambda images: np.array([b"text"], dtype=object), id="strings"),
    ],
)
def test_answer_against_the_contract_is_502(client: TestClient, backend: ScriptedBackend, answer: Answer) -> None:
    """Nonsense is never passed on as a prediction."""
    backend.versions["colours", 1].answer = answer
    reply = client.post("/v1/predict", content=encode("red"))

    assert (502, "model_server_broke_contract") == (reply.status_code, reply.json()["error"]["code"])


def test_answer_of_another_version_is_502(client: TestClient, backend: ScriptedBackend) -> None:
    """A version that was named must be the one that answers."""
    backend.versions["colours", 1].claims = 2
    reply = client.post("/v1/predict", content=encode("red"))

    assert (502, "model_server_broke_contract") == (reply.status_code, reply.json()["error"]["code"])


def test_answer_later_than_the_limit_is_504(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """A slow model server does not hold a client for ever."""
    client = start_gateway(backend=backend.address, models_dir=index.root, predict_timeout_s=0.5)
    wait_until_ready(client)
    backend.versions["colours", 1].delay_s = 2.0
    reply = client.post("/v1/predict", content=encode("red"))

    assert (504, "deadline_exceeded") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"contract_bytes": b"{}"}, id="empty-contract"),
        pytest.param({"contract_bytes": b"\xff"}, id="contract-not-json"),
        pytest.param({"describe_fault": grpc.StatusCode.FAILED_PRECONDITION}, id="no-describe-signature"),
    ],
)
def test_model_without_a_contract_is_not_served(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, behaviour: dict[str, Any]
) -> None:
    """Without knowing how to prepare an image there is nothing to answer: 502, and not ready."""
    backend.versions["colours", 1] = scripted(**behaviour)
    client = start_gateway(backend=backend.address, models_dir=index.root)
    reply = client.post("/v1/predict", content=encode("red"))

    assert (502, "model_server_broke_contract") == (reply.status_code, reply.json()["error"]["code"])
    assert 503 == client.get("/readyz").status_code


def test_missing_output_is_502(client: TestClient, backend: ScriptedBackend) -> None:
    """A reply without probabilities is a broken contract."""
    backend.omitted.add("probabilities")
    reply = client.post("/v1/predict", content=encode("red"))

    assert (502, "model_server_broke_contract") == (reply.status_code, reply.json()["error"]["code"])


def test_unexpected_error_is_a_bare_500_and_a_traceback_in_the_log(
    client: TestClient, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the gateway's own tells the client its request id, the log everything."""

    @client.app.get("/fault")  # type: ignore[attr-defined]
    def fail() -> None:
        raise RuntimeError("details nobody should see")

    with caplog.at_level(logging.ERROR):
        reply = client.get("/fault", headers={"x-request-id": "id-7"})

    assert (500, "internal_error", "id-7") == (
        reply.status_code,
        reply.json()["error"]["code"],
        reply.json()["error"]["request_id"],
    )
    assert "details" not in reply.text
    assert "details nobody should see" in caplog.text
