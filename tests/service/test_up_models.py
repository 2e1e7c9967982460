"""`python -m service up` names the models that do not answer."""

from __future__ import annotations

from pathlib import Path

from contract.store import ModelStore
from tests.helpers.gateway_process import fetch
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
