"""One process answers as gateway and model server in two: the same status, the same body, whatever is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.service.conftest import StartProcess

ID = {"X-Request-ID": "same"}
NUMBERS = {"instances": [[[[1, 2, 3]] * 2] * 2]}  # of another size than the model's
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "image": ("POST", "/v1/predict", {"content": encode("red")}),
    "form": ("POST", "/v1/predict?top=2", {"files": [("file", (name, encode(name))) for name in COLOURS]}),
    "explain": ("POST", "/v1/explain", {"content": encode("blue")}),
    "embed": ("POST", "/v1/embed", {"content": encode("blue")}),
    "another-version": ("POST", "/v1/predict?version=9", {"content": encode("red")}),
    "broken-image": ("POST", "/v1/predict", {"content": b"\xff\xd8\xff"}),
    "late": ("POST", "/v1/predict", {"content": encode("red"), "headers": {"X-Request-Timeout": "0.000001"}}),
    "state": ("GET", f"/v1/models/{MODEL_NAME}", {}),
    "metadata": ("GET", f"/v1/models/{MODEL_NAME}/metadata", {}),
    "wrong-shape": ("POST", f"/v1/models/{MODEL_NAME}:predict", {"json": NUMBERS}),
    "strings": ("POST", f"/v1/models/{MODEL_NAME}:predict", {"json": {"signature_name": "describe", "inputs": [0]}}),
    "no-signature": ("POST", f"/v1/models/{MODEL_NAME}:predict", {"json": {"signature_name": "no", "inputs": [0]}}),
    "inference": ("GET", f"/v2/models/{MODEL_NAME}", {}),
}


@pytest.fixture(scope="module", name="store")
def fixture_store(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> ModelStore:
    """A store with one version, which explains itself."""
    store = ModelStore(tmp_path_factory.mktemp("same") / "models")
    publish_variant(store, tiny_models["plain"])
    return store


def test_every_request_has_the_same_reply(
    store: ModelStore, start_process: StartProcess, start_modelserver: StartModelServer
) -> None:
    """Predictions, explanations, tensors, states, and what is refused."""
    server = start_modelserver(store, "--enable_serialization_as_tensor_content")
    apart = start_process("gateway", f"--models-dir={store.root}", f"--backend={server.address}", "--port=0")
    together = start_process("up", f"--models-dir={store.root}", "--port=0", "--processes=1")
    replies = {}
    for name, process in {"apart": apart, "together": together}.items():
        url = process.wait_for_url()
        process.wait_until_ready(url)
        with httpx2.Client(base_url=url, trust_env=False, timeout=60, headers=ID) as client:
            replies[name] = {case: read(client, *request) for case, request in REQUESTS.items()}

    assert replies["apart"] == replies["together"]
    assert {200, 400, 404} <= {status for status, _ in replies["together"].values()}
    assert 504 == replies["together"]["late"][0]


def read(client: httpx2.Client, method: str, path: str, options: dict[str, Any]) -> tuple[int, Any]:
    """Return status and body of a reply."""
    reply = client.request(method, path, **options)
    body = json.loads(reply.content)
    if reply.status_code == 504:
        del body["error"]["message"]  # says what was being done in that moment
    return reply.status_code, body
