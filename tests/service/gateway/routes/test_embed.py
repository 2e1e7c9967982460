"""POST /v1/embed: vectors as JSON and as bytes, refusals, limits, and what it shares with the other routes."""

from __future__ import annotations

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.client import FoveaClient
from tests.conftest import StartModelServer
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.helpers.tiny_model import build_image, expected_embeddings, publish_variant
from tests.service.conftest import StartProcess
from tests.service.gateway.conftest import StartGateway, wait_until_ready

BYTES = {"accept": "application/octet-stream"}


@pytest.fixture
def backend(backend: ScriptedBackend) -> ScriptedBackend:
    """The scripted model server, whose version 1 has embeddings."""
    backend.versions["colours", 1] = scripted("embedding")
    return backend


def expected(*colours: str) -> np.ndarray:
    """Return the vectors of images of one colour, as `pictures.encode` makes them."""
    return np.concatenate([expected_embeddings(build_image(colour, 16)[None]) for colour in colours])


def form(*names: str) -> list[tuple[str, tuple[str, bytes]]]:
    """Return a form of images named for their colours; other names are no images."""
    return [("file", (name, encode(name) if name in COLOURS else b"text")) for name in names]


def test_json_has_a_vector_for_each_image_with_float32s_digits(client: TestClient, backend: ScriptedBackend) -> None:
    vectors = np.array([[1 / 3, 1e-30, -7.5], [0.0, 2.5, 3e8]], np.float32)
    backend.versions["colours", 1].embedding = lambda images: vectors[: len(images)]
    reply = client.post("/v1/embed", files=form("red", "blue"))

    document = reply.json()
    assert 200 == reply.status_code, reply.text
    assert "accept" == reply.headers["vary"]
    assert {"name": "colours", "version": 1} == {key: document["model"][key] for key in ("name", "version")}
    assert (3, reply.headers["x-request-id"]) == (document["dimension"], document["request_id"])
    assert ["red", "blue"] == [entry["name"] for entry in document["embeddings"]]
    assert [[] for _ in vectors] == [entry["warnings"] for entry in document["embeddings"]]
    received = [entry["embedding"] for entry in document["embeddings"]]
    np.testing.assert_array_equal(vectors, np.array(received, np.float32))
    assert "0.33333334," in reply.text


@pytest.mark.parametrize("sent", ["raw", "form", "json"])
def test_images_come_in_every_form_that_predict_takes(client: TestClient, sent: str) -> None:
    images = {"images": [{"name": "red", "b64": base64.b64encode(encode("red")).decode()}]}
    body: dict[str, Any] = {
        "raw": {"content": encode("red")},
        "form": {"files": form("red")},
        "json": {"json": images},
    }[sent]
    for route in ("/v1/predict", "/v1/embed"):
        assert 200 == client.post(route, **body).status_code

    (entry,) = client.post("/v1/embed", **body).json()["embeddings"]
    np.testing.assert_allclose(expected("red")[0], entry["embedding"], atol=0.02)


def test_bytes_are_little_endian_float32_with_their_shape_in_a_header(client: TestClient) -> None:
    reply = client.post("/v1/embed", files=form(*COLOURS), headers=BYTES)

    assert (200, "application/octet-stream") == (reply.status_code, reply.headers["content-type"])
    names = ("x-embedding-shape", "x-model-name", "x-model-version", "vary")
    assert ["3,3", "colours", "1", "accept"] == [reply.headers[name] for name in names]
    received = np.frombuffer(reply.content, "<f4").reshape(3, 3)
    told = [entry["embedding"] for entry in client.post("/v1/embed", files=form(*COLOURS)).json()["embeddings"]]
    np.testing.assert_array_equal(np.array(told, np.float32), received)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/json, application/octet-stream", "application/json"),
        ("application/octet-stream;q=0.5, application/json;q=0.4", "application/octet-stream"),
        ("image/png", "application/json"),
    ],
)
def test_accept_decides_on_the_form(client: TestClient, accept: str, kind: str) -> None:
    reply = client.post("/v1/embed", content=encode("red"), headers={"accept": accept})

    assert kind == reply.headers["content-type"]


def test_a_refused_image_has_its_own_error_in_json_and_fails_bytes(client: TestClient) -> None:
    files = form("red", "notes.txt", "blue")
    entries = client.post("/v1/embed", files=files).json()["embeddings"]
    refused = client.post("/v1/embed", files=files, headers=BYTES)

    assert [True, False, True] == ["embedding" in entry for entry in entries]
    assert "unsupported_image" == entries[1]["error"]["code"]
    error = refused.json()["error"]
    assert (415, "unsupported_image") == (refused.status_code, error["code"])
    assert f"notes.txt: {entries[1]['error']['message']}" == error["message"]


@pytest.mark.parametrize("headers", [{}, BYTES], ids=["json", "bytes"])
@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"text"}, 415, "unsupported_image"),
        ({"content": b""}, 400, "empty_image"),
        ({"content": encode("red"), "params": {"top": 1}}, 422, "invalid_value"),
        ({"content": encode("red"), "params": {"version": 1, "label": "live"}}, 422, "invalid_value"),
        ({"content": encode("red"), "params": {"version": 9}}, 404, "version_not_found"),
        ({"content": encode("red"), "params": {"label": "candidate"}}, 404, "label_not_found"),
        ({"content": encode("red"), "params": {"model": "shapes"}}, 404, "model_not_found"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_request"),
        ({"files": form(*["red"] * 65)}, 413, "too_many_images"),
        ({"content": encode("red"), "headers": {"x-request-timeout": "soon"}}, 422, "invalid_value"),
    ],
)
def test_errors_are_those_of_predict(
    client: TestClient, request_: dict[str, Any], status: int, code: str, headers: dict[str, str]
) -> None:
    sent = {**request_, "headers": {**request_.get("headers", {}), **headers}}
    reply = client.post("/v1/embed", **sent)
    assert (status, code) == (reply.status_code, reply.json()["error"]["code"]), reply.text
    if "top" not in request_.get("params", {}):
        assert (status, code) == (
            (other := client.post("/v1/predict", **sent)).status_code,
            other.json()["error"]["code"],
        )


def test_a_version_without_embeddings_is_422(client: TestClient, backend: ScriptedBackend, index: ModelStore) -> None:
    """With a code of its own, before an image is decoded; predictions go on."""
    backend.versions["plain", 1] = scripted()
    with index.staging() as directory:
        index.publish("plain", directory, live=True)
    for content in (encode("red"), b"text"):
        reply = client.post("/v1/embed", params={"model": "plain", "version": 1}, content=content)
        assert (422, "no_embedding") == (reply.status_code, reply.json()["error"]["code"])
        assert "plain version 1 has no embeddings" in reply.json()["error"]["message"]
    assert 200 == client.post("/v1/predict", params={"model": "plain"}, content=encode("red")).status_code


@pytest.mark.parametrize(
    "embedding",
    [
        pytest.param(lambda images: np.ones((len(images), 4), np.float32), id="too-long"),
        pytest.param(lambda images: np.ones((len(images) + 1, 3), np.float32), id="too-many"),
        pytest.param(lambda images: np.ones((len(images), 3, 1), np.float32), id="an-axis-too-many"),
        pytest.param(lambda images: np.full((len(images), 3), np.nan, np.float32), id="not-finite"),
        pytest.param(lambda images: np.ones((len(images), 3), np.int32), id="integers"),
    ],
)
def test_vectors_that_break_the_contract_are_502(client: TestClient, backend: ScriptedBackend, embedding: Any) -> None:
    backend.versions["colours", 1].embedding = embedding
    reply = client.post("/v1/embed", content=encode("red"))

    assert (502, "model_server_broke_contract") == (reply.status_code, reply.json()["error"]["code"])


def test_a_deadline_ends_it(client: TestClient, backend: ScriptedBackend) -> None:
    with backend.versions["colours", 1].held():
        reply = client.post("/v1/embed", content=encode("red"), headers={"x-request-timeout": "0.2"})

    assert (504, "deadline_exceeded") == (reply.status_code, reply.json()["error"]["code"])


def test_images_are_counted_by_outcome_and_no_class_is(client: TestClient) -> None:
    client.post("/v1/embed", files=form("red", "notes.txt", "blue"))
    text = client.get("/metrics").text

    assert 'fovea_images_total{outcome="ok"} 2.0' in text
    assert 'fovea_images_total{outcome="unsupported_image"} 1.0' in text
    assert 'fovea_requests_total{code="200",method="POST",route="/v1/embed"} 1.0' in text
    assert "fovea_predictions_total{" not in text


def test_the_audit_log_has_hashes_alone(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    client = start_gateway(backend=backend.address, models_dir=index.root, audit_log=log)
    wait_until_ready(client)
    client.post("/v1/embed", files=form("red", "notes.txt"))

    (line,) = map(json.loads, log.read_text().splitlines())
    good, bad = line["images"]
    vector = np.frombuffer(client.post("/v1/embed", content=encode("red"), headers=BYTES).content, np.float32)
    assert ("embed", "colours", 1) == (line["action"], line["model"], line["version"])
    assert hashlib.sha256(encode("red")).hexdigest() == good["sha256"]
    assert hashlib.sha256(vector.tobytes()).hexdigest() == good["embedding_sha256"]
    assert "unsupported_image" == bad["error"]


def test_a_real_model_server_answers_alike_by_every_way(
    store: ModelStore, tiny_models: dict[str, Path], start_modelserver: StartModelServer, start_process: StartProcess
) -> None:
    """/v1/embed, TensorFlow Serving's REST, the Open Inference Protocol and the client; many at once get their own."""
    publish_variant(store, tiny_models["embedding"])
    server = start_modelserver(store)
    process = start_process("gateway", f"--models-dir={store.root}", f"--backend={server.address}", "--port=0")
    url = process.wait_for_url()
    process.wait_until_ready(url)
    vectors = {colour: ask_every_way(url, colour) for colour in COLOURS}
    with FoveaClient(url) as client:

        def ask(number: int) -> bool:
            colour = COLOURS[number % 3]
            (entry,) = client.embed([encode(colour)]).embeddings
            return np.allclose(vectors[colour], entry.vector)

        with ThreadPoolExecutor(6) as pool:
            assert [True] * 60 == list(pool.map(ask, range(60)))


def ask_every_way(url: str, colour: str) -> np.ndarray:
    """Return the vector of an image, which all routes agree on."""
    b64 = base64.b64encode(encode(colour)).decode()
    rows = {"signature_name": "embed", "instances": [{"b64": b64}]}
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [b64]}
    infer = {"parameters": {"signature_name": "embed"}, "inputs": [tensor]}
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
        plain = http.post("/v1/embed", content=encode(colour)).raise_for_status().json()
        tensorflow = http.post("/v1/models/colours:predict", json=rows).raise_for_status().json()
        open_inference = http.post("/v2/models/colours/infer", json=infer).raise_for_status().json()
    found = np.array(plain["embeddings"][0]["embedding"])
    np.testing.assert_allclose(expected(colour)[0], found, atol=0.02)
    np.testing.assert_allclose(found, tensorflow["predictions"][0], atol=1e-6)
    np.testing.assert_allclose(found, open_inference["outputs"][0]["data"], atol=1e-6)
    return found
