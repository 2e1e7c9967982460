"""Fixtures: a gateway and a model server, each a process of its own, over one store."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.helpers.gateway_process import ServiceProcess, fetch
from tests.helpers.model_client import ModelClient
from tests.helpers.server_process import ServerProcess, start_server
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.helpers.traffic import Ledger
from tests.helpers.wire import Wire
from tests.service.conftest import StartProcess, backend, index, start_process

__all__ = ["backend", "index", "start_process"]


@dataclass
class Served:
    """A gateway process in front of a model server process, ready."""

    url: str
    store: ModelStore
    gateway: ServiceProcess
    server: ServerProcess

    @property
    def models(self) -> dict[str, int]:
        """The models that the gateway says it can answer for, with their versions; none while it is not ready."""
        reply = fetch(self.url + "/readyz")
        return {} if reply is None else reply.json().get("models", {})

    def model(self, name: str = MODEL_NAME) -> dict[str, Any]:
        """The answer of GET /v1/models/NAME, labels included."""
        reply = fetch(f"{self.url}/v1/models/{name}", accept="application/vnd.fovea+json")
        assert reply is not None
        found: dict[str, Any] = reply.json()
        return found

    def state(self, version: int, name: str = MODEL_NAME) -> tuple[str, str] | None:
        """State and error code of a version as the gateway shows them; None if it shows no such version."""
        states = self.model(name)["model_version_status"]
        found = [item for item in states if item["version"] == str(version)]
        return (found[0]["state"], found[0]["status"]["error_code"]) if found else None

    def check_counters(self, seen: Ledger) -> None:
        """Compare the gateway's counters with what its only clients counted."""
        check_counters(self.url, seen)


def check_counters(url: str, seen: Ledger) -> None:
    """Compare a gateway's counters with what its only clients counted: replies by status, images by class."""
    deadline = time.monotonic() + 120
    while read_counters(url)[0] != seen.statuses and time.monotonic() < deadline:
        time.sleep(0.05)  # a reply is counted when it is out
    requests, images = read_counters(url)
    assert dict(seen.statuses) == requests
    assert dict(seen.answers) == images


def read_counters(url: str) -> tuple[dict[int, int], dict[tuple[int, str], int]]:
    """Return a gateway's predict requests by status, and its images by version and class."""
    scraped = fetch(url + "/metrics")
    assert scraped is not None
    samples = [sample for family in text_string_to_metric_families(scraped.text) for sample in family.samples]
    requests = {
        int(sample.labels["code"]): int(sample.value)
        for sample in samples
        if sample.name == "fovea_requests_total" and sample.labels["route"] == "/v1/predict"
    }
    images = {
        (int(sample.labels["version"]), sample.labels["label"]): int(sample.value)
        for sample in samples
        if sample.name == "fovea_predictions_total"
    }
    return requests, images


@pytest.fixture
def served(store: ModelStore, start_modelserver: StartModelServer, start_process: StartProcess) -> Served:
    """Both over a store that has `colours` 1, the plain variant."""
    return start_serving(start_modelserver(store), start_process)


def start_serving(server: ServerProcess, start_process: StartProcess, *flags: str) -> Served:
    """Start a gateway in front of a model server and wait until it is ready."""
    process = start_process(
        "gateway",
        f"--models-dir={server.store.root}",
        f"--backend={server.address}",
        "--port=0",
        "--poll-s=0.1",
        *flags,
    )
    url = process.wait_for_url()
    process.wait_until_ready(url)
    return Served(url, server.store, process, server)


@pytest.fixture(scope="package")
def wired(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Iterator[tuple[Served, Wire]]:
    """A gateway, the wire to its model server, and that: one call at a time, two may wait.

    Models: `colours`; `slow`, half a second a call; `vanishing`, of which 2 is slow and live and 1 is not.
    """
    folder = tmp_path_factory.mktemp("wired")
    store = ModelStore(folder / "models")
    publish_variant(store, tiny_models["plain"])
    publish_variant(store, tiny_models["slow"], name="slow")
    for variant in ("plain", "slow"):
        publish_variant(store, tiny_models[variant], name="vanishing")
    flags = ("--num_streams=1", "--max_batch_size=1", "--max_waiting_calls=2")
    server = start_server(store, folder / "modelserver.log", flags)
    processes: list[ServiceProcess] = []

    def start(*arguments: str) -> ServiceProcess:
        processes.append(ServiceProcess(arguments, folder))
        return processes[-1]

    try:
        with ModelClient(server.address) as client:
            client.wait_for("colours", 1)
            client.wait_for("slow", 1)
            client.wait_for("vanishing", 2)
        with Wire(server.address) as wire:
            server.address = wire.address
            yield start_serving(server, start), wire
            assert 0 == processes[0].stop()
    finally:
        for process in processes:
            process.stop()
        server.stop()


@contextmanager
def stopped(server: ServerProcess) -> Iterator[None]:
    """Let a process stand still, by SIGSTOP, while the block runs."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)
