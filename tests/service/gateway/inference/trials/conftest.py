"""Fixtures: a gateway in front of a live version and its candidate."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty
from tests.service.gateway.inference.trials.trials import NAME


@pytest.fixture
def trying(client: TestClient, backend: ScriptedBackend, index: ModelStore) -> TestClient:
    """The gateway, ready; version 1 is live, version 2 the candidate, and both are loaded."""
    backend.versions[NAME, 2] = scripted("permuted")
    publish_empty(index, live=False)
    return client
