"""Fixtures: a scripted model server, an index for it, and processes of the service that end with their test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.scripted_backend import ScriptedBackend, scripted

StartProcess = Callable[..., ServiceProcess]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[ScriptedBackend]:
    """A scripted model server that serves `colours` version 1, the plain variant."""
    with ScriptedBackend(tmp_path / "backend.sock") as server:
        server.versions["colours", 1] = scripted()
        yield server


@pytest.fixture
def index(tmp_path: Path) -> ModelStore:
    """A store whose index has `colours` 1 live; the folders of versions are empty, since only the index is read."""
    store = ModelStore(tmp_path / "models")
    publish_empty(store)
    return store


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """A function that starts `python -m service ...` for one test."""
    processes: list[ServiceProcess] = []
    numbers = itertools.count()

    def start(*arguments: str, **environ: str) -> ServiceProcess:
        folder = tmp_path / f"process{next(numbers)}"
        folder.mkdir()
        processes.append(ServiceProcess(arguments, folder, environ))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


@pytest.fixture
def gateway(start_process: StartProcess, backend: ScriptedBackend, index: ModelStore) -> tuple[ServiceProcess, str]:
    """A gateway process in front of the scripted model server, ready; and its URL."""
    process = start_process("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0")
    url = process.wait_for_url()
    process.wait_until_ready(url)
    return process, url


def publish_empty(store: ModelStore, name: str = "colours", *, live: bool = True) -> int:
    """Publish a version without contents: the gateway reads the index alone."""
    with store.staging() as directory:
        return store.publish(name, directory, live=live)
