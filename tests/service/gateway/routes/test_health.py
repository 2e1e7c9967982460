"""Liveness, readiness, metrics, documentation, request ids, and the framework's own errors."""

from __future__ import annotations

import re
import time

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from contract.store import INITIALISING_MARK, ModelStore
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready


def not_ready(client: TestClient) -> tuple[int, str]:
    """Return the status and code of /readyz."""
    reply = client.get("/readyz")
    return reply.status_code, reply.json()["error"]["code"]


def test_ready_gateway_says_what_answers(client: TestClient, backend: ScriptedBackend) -> None:
    """Ready means that a warm prediction was made through the model server."""
    assert {"status": "ready", "models": {"colours": 1}} == client.get("/readyz").json()
    assert [("colours", 1, 1)] == backend.predictions


def test_empty_store_is_not_ready_and_says_what_to_do(
    start_gateway: StartGateway, backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first model is picked up without a restart; while compose trains it, that is what is said."""
    store = ModelStore(tmp_path_factory.mktemp("empty"))
    (store.root / INITIALISING_MARK).touch()
    client = start_gateway(backend=backend.address, models_dir=store.root)
    wait_for_code(client, "no_model")
    filling = client.get("/readyz").json()["error"]["message"]
    (store.root / INITIALISING_MARK).unlink()
    refused = client.post("/v1/predict", content=encode("red"))
    message = refused.json()["error"]["message"]
    publish_empty(store)
    wait_until_ready(client)

    assert "the store's first model is being trained" in filling
    assert "python -m pipeline run" in message
    assert (503, "no_model") == (refused.status_code, refused.json()["error"]["code"])


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        pytest.param({"state": "LOADING"}, "model_not_ready", id="loading"),
        pytest.param({"state": "END", "error_code": 13}, "model_not_ready", id="failed-to-load"),
        pytest.param({"fault": grpc.StatusCode.INTERNAL}, "model_server_broke_contract", id="fails"),
        pytest.param(
            {"answer": lambda images: np.full((len(images), 3), np.nan, np.float32)},
            "model_server_broke_contract",
            id="answers-nonsense",
        ),
    ],
)
def test_model_that_cannot_answer_is_not_ready(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, behaviour: dict[str, object], code: str
) -> None:
    """Every obstacle has its code, with status 503; once it is gone, the gateway is ready."""
    backend.versions["colours", 1] = scripted(**behaviour)
    client = start_gateway(backend=backend.address, models_dir=index.root)
    wait_for_code(client, code)
    reply = client.get("/readyz")
    backend.versions["colours", 1] = scripted()
    wait_until_ready(client)

    assert 503 == reply.status_code
    assert reply.headers["retry-after"]


def test_gateway_starts_before_the_model_server(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """It says what it waits for, and is ready soon after the model server has come."""
    backend.stop()
    client = start_gateway(backend=backend.address, models_dir=index.root)
    wait_for_code(client, "model_server_unreachable")
    backend.start()
    wait_until_ready(client)


def test_version_that_takes_over_is_warmed_first(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Readiness names the version that answers: the previous one until the live one is loaded and has predicted."""
    publish_empty(index)
    time.sleep(1.2)
    assert {"colours": 1} == client.get("/readyz").json()["models"]
    backend.versions["colours", 2] = scripted("small")
    deadline = time.monotonic() + 120
    while client.get("/readyz").json()["models"] != {"colours": 2} and time.monotonic() < deadline:
        time.sleep(0.05)

    assert [("colours", 1, 1), ("colours", 2, 1)] == backend.predictions


def test_health_answers_without_any_model_server(client: TestClient, backend: ScriptedBackend) -> None:
    """Liveness is about the process alone."""
    backend.stop()

    assert (200, {"status": "ok"}) == ((reply := client.get("/healthz")).status_code, reply.json())


def test_metrics_count_what_was_answered(client: TestClient) -> None:
    """Requests by route, method and code; images by outcome; predictions by class."""
    for colour in (*COLOURS, "red"):
        client.post("/v1/predict", content=encode(colour))
    files = [("file", ("a", encode("red"))), ("file", ("b", truncated_jpeg()))]
    client.post("/v1/predict", files=files)
    client.post("/v1/predict", content=truncated_jpeg())
    client.get("/v1/predict")
    client.get("/nothing/here")
    values = scrape(client)

    assert 5 == values["fovea_requests_total", "200", "POST", "/v1/predict"]
    assert 1 == values["fovea_requests_total", "400", "POST", "/v1/predict"]
    assert 1 == values["fovea_requests_total", "405", "GET", "/v1/predict"]
    assert 1 == values["fovea_requests_total", "404", "GET", "unmatched"]
    assert (5, 2) == (values["fovea_images_total", "ok"], values["fovea_images_total", "undecodable_image"])
    assert 3 == values["fovea_predictions_total", "red", "colours", "1"]
    assert 1 == values["fovea_predictions_total", "green", "colours", "1"]
    assert 5 == values["fovea_stage_seconds_count", "model"]
    assert {"decode": 6, "encode": 5, "read": 6} == {
        stage: values["fovea_stage_seconds_count", stage] for stage in ("decode", "encode", "read")
    }
    assert (1, 1) == (values["fovea_requests_in_flight",], values["fovea_ready",])


def test_two_apps_in_one_process_count_apart(
    start_gateway: StartGateway, client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Metrics belong to an app, not to the process."""
    other = start_gateway(backend=backend.address, models_dir=index.root)
    client.post("/v1/predict", content=encode("red"))

    assert 1 == scrape(client)["fovea_images_total", "ok"]
    assert ("fovea_images_total", "ok") not in scrape(other)


@pytest.mark.parametrize("sent", ["abc", "a" * 128, "trace:1/2+3=@x-y._"])
def test_harmless_request_id_is_echoed(client: TestClient, sent: str) -> None:
    """A client's own id comes back."""
    assert sent == client.get("/healthz", headers={"x-request-id": sent}).headers["x-request-id"]


@pytest.mark.parametrize("sent", [None, "", "a" * 129, "two words", 'quote"', "<script>", "tab\t1"])
def test_missing_or_harmful_request_id_is_made_anew(client: TestClient, sent: str | None) -> None:
    """Nothing that could break a log line or a header is echoed."""
    reply = client.get("/healthz", headers={} if sent is None else {"x-request-id": sent})

    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/predict", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("BREW", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_errors_of_the_framework_have_our_body(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    """Unknown routes and methods are answered like everything else."""
    reply = client.request(method, path)

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])
    assert reply.headers["x-request-id"] == reply.json()["error"]["request_id"]


def test_openapi_documents_bodies_replies_and_errors(client: TestClient) -> None:
    """A route says what it takes and gives; test_openapi.py looks at all of them."""
    document = client.get("/openapi.json").json()
    predict = document["paths"]["/v1/predict"]["post"]

    assert {"image/*", "multipart/form-data", "application/json"} == set(predict["requestBody"]["content"])
    assert {200, 400, 401, 403, 404, 413, 415, 422, 429, 502, 503, 504} == {int(s) for s in predict["responses"]}
    assert "example" in document["components"]["schemas"]["PredictReply"]


def scrape(client: TestClient) -> dict[tuple[str, ...], float]:
    """Return the samples of /metrics by name and label values, in the order of the labels' names."""
    reply = client.get("/metrics")
    families = text_string_to_metric_families(reply.text)
    return {
        (s.name, *(s.labels[key] for key in sorted(s.labels))): s.value for family in families for s in family.samples
    }


def wait_for_code(client: TestClient, code: str) -> None:
    """Wait until /readyz waits for something."""
    deadline = time.monotonic() + 120
    while not_ready(client) != (503, code):
        if time.monotonic() > deadline:
            raise TimeoutError(client.get("/readyz").text)
        time.sleep(0.02)
