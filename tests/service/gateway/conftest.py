"""Fixtures: the gateway as an app in this process, in front of a scripted model server or a real one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.app import create_app
from service.gateway.settings import Settings
from tests.helpers.scripted_backend import ScriptedBackend, scripted

StartGateway = Callable[..., TestClient]


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
def start_gateway() -> Iterator[StartGateway]:
    """A function that runs the app for one test: `start_gateway(backend=..., models_dir=...)`, ready or not."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> TestClient:
            app = create_app(Settings(**{"poll_s": 0.02, **settings}))
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start


@pytest.fixture
def client(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> TestClient:
    """The gateway in front of the scripted model server, ready."""
    gateway = start_gateway(backend=backend.address, models_dir=index.root)
    wait_until_ready(gateway)
    return gateway


def publish_empty(store: ModelStore, name: str = "colours", *, live: bool = True) -> int:
    """Publish a version without contents: the gateway reads the index alone."""
    with store.staging() as directory:
        return store.publish(name, directory, live=live)


def wait_until_ready(client: TestClient, *, timeout_s: float = 20.0) -> None:
    """Wait for /readyz to say yes.

    Raises:
        TimeoutError: with what it says instead.
    """
    deadline = time.monotonic() + timeout_s
    while (reply := client.get("/readyz")).status_code != 200:
        if time.monotonic() > deadline:
            raise TimeoutError(reply.text)
        time.sleep(0.02)
