"""Shadow and canary with the real commands, gateways and model server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.store import ModelStore
from contract.trials.findings import read_findings
from contract.trials.trial import CANARY, SHADOW
from tests.conftest import StartModelServer
from tests.helpers.gateway_process import ServiceProcess, fetch, predict
from tests.helpers.model_client import ModelClient
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.repository.project import ROOT

PATIENCE_S = 120.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def fovea(store: ModelStore, *arguments: str) -> str:
    """Run a command on the store and return what it prints."""
    command = [sys.executable, "-m", "fovea", *arguments, f"--models-dir={store.root}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def metric(url: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels."""
    reply = fetch(f"{url}/metrics")
    assert reply is not None
    samples = [s for family in text_string_to_metric_families(reply.text) for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


@pytest.fixture
def candidate(store: ModelStore, tiny_models: dict[str, Path]) -> ModelStore:
    """A store with version 1 of `colours` live, and version 2, whose input is smaller, its candidate."""
    publish_variant(store, tiny_models["small"], live=False)
    return store


def test_candidate_is_tried_and_promoted(
    candidate: ModelStore, start_modelserver: StartModelServer, tmp_path: Path
) -> None:
    """Two gateways follow the commands; `promote` adds up what both found, without asking them."""
    server = start_modelserver(candidate)
    with ModelClient(server.address) as client:
        for version in (1, 2):
            client.wait_for(MODEL_NAME, version)
    gateways = []
    try:
        for number in (1, 2):
            folder = tmp_path / f"gateway{number}"
            folder.mkdir()
            flags = ["gateway", f"--models-dir={candidate.root}", f"--backend={server.address}", "--port=0"]
            gateways.append(ServiceProcess([*flags, f"--audit-log={folder / 'audit.jsonl'}"], folder))
        urls = [gateway.wait_for_url() for gateway in gateways]
        for gateway, url in zip(gateways, urls, strict=True):
            gateway.wait_until_ready(url)

        said = fovea(candidate, "shadow", MODEL_NAME, "100%")
        for url in urls:
            wait_for(lambda url=url: metric(url, "fovea_trial_share", kind=SHADOW) == 1, "shadow")  # type: ignore[misc]
            for colour in COLOURS:
                before = metric(url, "fovea_trial_calls_total", kind=SHADOW, outcome="ok")
                assert 1 == predict(url, encode(colour)).json()["model"]["version"]
                wait_for(
                    lambda url=url, n=before: metric(url, "fovea_trial_calls_total", kind=SHADOW, outcome="ok") > n,  # type: ignore[misc]
                    "a shadow call",
                )
        fovea(candidate, "shadow", MODEL_NAME, "off")
        fovea(candidate, "canary", MODEL_NAME, "100%")
        for url in urls:
            wait_for(lambda url=url: metric(url, "fovea_trial_share", kind=CANARY) == 1, "canary")  # type: ignore[misc]
            assert (2, "red") == _answer(url)
        trial = candidate.read_index()[MODEL_NAME].trial
        assert trial is not None
        folder = candidate.root / ".trials" / MODEL_NAME
        wait_for(lambda: read_findings(folder, trial)[CANARY].answers == 2, "the figures of both gateways")
        listed, promoted = fovea(candidate, "models"), fovea(candidate, "promote", MODEL_NAME)
        for url in urls:
            wait_for(lambda url=url: metric(url, "fovea_live_version", model=MODEL_NAME) == 2, "promotion")  # type: ignore[misc]
    finally:
        for gateway in gateways:
            gateway.stop()
    images = 2 * len(COLOURS)
    shadow = f"colours/2: shadow off: same class as the live version in 100.0% of {images} images; 0 errors; 95th"
    lines = [json.loads(line) for line in (tmp_path / "gateway1" / "audit.jsonl").read_text().splitlines()]

    assert "colours/2: is asked 100% of the requests too; version 1 answers\n" == said
    assert shadow in listed
    assert shadow in promoted
    assert "colours/2: canary 100%: 2 answers, the live version 0; 0 errors; 95th percentile of latency" in promoted
    assert promoted.endswith("colours: live is version 2\n")
    assert [(1, None)] * len(COLOURS) + [(2, True)] == [(line["version"], line.get("canary")) for line in lines]
    assert "shadow" not in fovea(candidate, "models")


def test_candidate_that_is_not_loaded_costs_no_answer(
    candidate: ModelStore, start_modelserver: StartModelServer, tmp_path: Path
) -> None:
    """A canary whose version cannot be loaded goes on for its own, and the live version answers."""
    (candidate.version_path(MODEL_NAME, 2) / "saved_model.pb").write_bytes(b"broken")
    candidate.set_trial_share(MODEL_NAME, CANARY, 1)
    server = start_modelserver(candidate)
    gateway = ServiceProcess(
        ["gateway", f"--models-dir={candidate.root}", f"--backend={server.address}", "--port=0"], tmp_path
    )
    try:
        url = gateway.wait_for_url()
        gateway.wait_until_ready(url)
        answers = [_answer(url) for _ in range(5)]
        missing = metric(url, "fovea_trial_calls_total", kind=CANARY, outcome="not_loaded")
    finally:
        gateway.stop()

    assert [(1, "red")] * 5 == answers
    assert 5 == missing
    assert "5 calls while it was not loaded" in fovea(candidate, "models")


def _answer(url: str) -> tuple[int, str]:
    reply = predict(url, encode("red")).json()
    return reply["model"]["version"], reply["predictions"][0]["top"][0]["id"]
