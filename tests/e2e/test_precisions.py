"""The precision that answers, through gateway and model server: named in replies, status, metrics and audit log."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.judged_model import make_judged, write_verification
from tests.helpers.pictures import encode
from tests.helpers.tiny_model import MODEL_NAME

FULL = {"accept": "application/vnd.fovea+json"}


@pytest.fixture(scope="module")
def work(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store whose version 1 may be served at int8."""
    work = tmp_path_factory.mktemp("precisions")
    store = ModelStore(work / "models")
    with store.staging() as directory:
        make_judged(tiny_models["plain"], directory)
        store.publish(MODEL_NAME, directory)
    return work


@pytest.fixture(scope="module")
def url(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a service that pins int8 answers."""
    flags = [f"--models-dir={work / 'models'}", "--port=0", "--precision=int8"]
    environ = {"FOVEA_AUDIT_LOG": str(work / "audit.jsonl")}
    process = ServiceProcess(["up", *flags], tmp_path_factory.mktemp("up"), environ=environ)
    try:
        address = process.wait_for_url(timeout_s=120)
        process.wait_until_ready(address)
        yield address
    finally:
        process.stop()


def test_replies_and_their_audit_lines_name_the_precision(url: str, work: Path) -> None:
    """int8 for predictions, float32 for explanations, whose signature int8 does not have; tensors by a header."""
    image = encode("red")
    predicted = httpx2.post(f"{url}/v1/predict", content=image, timeout=60).json()
    explained = httpx2.post(f"{url}/v1/explain", content=image, timeout=60).json()
    several = httpx2.post(f"{url}/v1/predict", files=[("file", image), ("file", image)], timeout=60).json()
    instances = {"instances": [{"b64": base64.b64encode(image).decode()}]}
    tensors = httpx2.post(f"{url}/v1/models/{MODEL_NAME}:predict", json=instances, timeout=60)
    assert [reply for reply in (predicted, several, explained) if "error" in reply] == []
    found = [reply["model"]["precision"] for reply in (predicted, several, explained)]
    assert (found, tensors.headers["x-model-precision"]) == (["int8", "int8", "float32"], "int8")
    lines = [json.loads(line) for line in (work / "audit.jsonl").read_text().splitlines()]
    assert [line["precision"] for line in lines] == ["int8", "float32", "int8", "int8"]


def test_status_and_metrics_name_the_precision(url: str) -> None:
    """Of the version, once it has answered; the page shows what the model's document says."""
    assert httpx2.post(f"{url}/v1/predict", content=encode("red"), timeout=60).status_code == 200
    (state,) = httpx2.get(f"{url}/v1/models/{MODEL_NAME}", headers=FULL, timeout=60).json()["model_version_status"]
    assert (state["state"], state["precision"]) == ("AVAILABLE", "int8")
    listed = httpx2.get(f"{url}/v1/models", timeout=60).json()["models"][0]["model_version_status"]
    assert [item["precision"] for item in listed] == ["int8"]
    metrics = httpx2.get(f"{url}/metrics", timeout=60).text
    assert f'fovea_model_precision{{model="{MODEL_NAME}",precision="int8",version="1"}} 1.0' in metrics or (
        f'fovea_model_precision{{model="{MODEL_NAME}",version="1",precision="int8"}} 1.0' in metrics
    )


@pytest.mark.slow
def test_a_pinned_precision_that_a_version_does_not_allow_is_refused(
    work: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """The model server's log names the version and what it allows; the service does not become ready."""
    store = ModelStore(tmp_path / "models")
    with store.staging() as directory:
        make_judged(tiny_models["plain"], directory)
        write_verification(directory, equivalent=False)
        store.publish(MODEL_NAME, directory)
    process = ServiceProcess(["up", f"--models-dir={store.root}", "--port=0", "--precision=int8"], tmp_path)
    try:
        reason, deadline = "allows by its verification: float32. Received: int8", time.monotonic() + 120
        while f"{MODEL_NAME}/1 {reason}" not in process.log:
            assert time.monotonic() < deadline, process.log
            time.sleep(0.05)
    finally:
        process.stop()
