"""Fixtures: the gateway as an app in this process, in front of a scripted model server or a real one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.app import create_app
from service.gateway.context.settings import Settings
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty

StartGateway = Callable[..., TestClient]


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


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """As `client`, one for all tests of a module; for those that change nothing on either side."""
    folder = tmp_path_factory.mktemp("shared")
    store = ModelStore(folder / "models")
    publish_empty(store)
    with ScriptedBackend(folder / "backend.sock") as backend:
        backend.versions["colours", 1] = scripted()
        with run_gateway(backend=backend.address, models_dir=store.root) as gateway:
            yield gateway


@contextlib.contextmanager
def run_gateway(**settings: Any) -> Iterator[TestClient]:
    """Run the app, ready, while the block runs."""
    app = create_app(Settings(**{"poll_s": 0.02, **settings}))
    with TestClient(app, raise_server_exceptions=False) as gateway:
        wait_until_ready(gateway)
        yield gateway


def wait_until_ready(client: TestClient, *, timeout_s: float = 120.0) -> None:
    """Wait for /readyz to say yes.

    Raises:
        TimeoutError: with what it says instead.
    """
    deadline = time.monotonic() + timeout_s
    while (reply := client.get("/readyz")).status_code != 200:
        if time.monotonic() > deadline:
            raise TimeoutError(reply.text)
        time.sleep(0.02)
