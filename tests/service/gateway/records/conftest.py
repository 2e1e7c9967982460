"""A gateway that takes feedback."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.gateway.conftest import StartGateway, wait_until_ready


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where feedback goes."""
    return tmp_path / "feedback"


@pytest.fixture
def desk(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, folder: Path) -> TestClient:
    """A gateway that takes feedback."""
    client = start_gateway(backend=backend.address, models_dir=index.root, feedback_dir=folder)
    wait_until_ready(client)
    return client
