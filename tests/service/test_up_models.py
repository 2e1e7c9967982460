"""`python -m service up` names the models that do not answer."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2

from contract.store import ModelStore
from pipeline.__main__ import main
from tests.helpers.gateway_process import fetch
from tests.helpers.pictures import encode
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.service.conftest import StartProcess
from tests.service.test_up import wait_for_output


def test_failed_model_is_named_beside_one_that_answers(
    start_process: StartProcess, tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    """The service is ready, and says which model is not."""
    store = ModelStore(tmp_path / "models")
    for name in (MODEL_NAME, "broken"):
        publish_variant(store, tiny_models["plain"], name=name)
    (store.version_path("broken", 1) / "saved_model.pb").write_bytes(b"no graph")
    service = start_process("up", f"--models-dir={store.root}", "--port=0")

    wait_for_output(service, "failed: broken: version 1 of broken failed to load (")
    assert "Fovea is ready" in service.output
    reply = fetch(f"{service.wait_for_url()}/readyz")
    assert reply is not None
    assert {"broken"} == reply.json()["failed"].keys()


def test_first_version_that_is_a_candidate_is_served_by_number_until_it_is_promoted(
    start_process: StartProcess, tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    """The service is ready and says how the model becomes live; nothing is started anew for it."""
    store = ModelStore(tmp_path / "models")
    publish_variant(store, tiny_models["plain"], live=False)
    service = start_process("up", f"--models-dir={store.root}", "--port=0")
    promote = f"python -m pipeline promote {MODEL_NAME} 1"
    wait_for_output(service, f"not live: {MODEL_NAME}: version 1 is a candidate; make it live with: {promote}")
    url = service.wait_for_url()
    assert {"status": "ready", "models": {}} == httpx2.get(f"{url}/readyz", timeout=60).json()

    def ask(query: str = "") -> httpx2.Response:
        return httpx2.post(f"{url}/v1/predict{query}", content=encode("red"), timeout=60)

    refused = ask()
    assert (404, "no_live_version") == (refused.status_code, refused.json()["error"]["code"])
    assert f"`{promote}`" in refused.json()["error"]["message"]
    deadline = time.monotonic() + 120
    while (reply := ask("?version=1")).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)  # the model server loads it
    assert ("red", 1) == (reply.json()["predictions"][0]["top"][0]["id"], reply.json()["model"]["version"])

    assert 0 == main(["promote", MODEL_NAME, "1", f"--models-dir={store.root}"])
    while (reply := ask()).status_code == 404 and time.monotonic() < deadline:
        time.sleep(0.05)  # the gateway reads the index again
    assert (200, "red") == (reply.status_code, reply.json()["predictions"][0]["top"][0]["id"])
