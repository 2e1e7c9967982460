"""Clients that other people wrote for TensorFlow Serving work with our server."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.server_process import ROOT, ServerProcess
from tests.helpers.strangers import CLIENTS, IMAGES
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, expected_probabilities


@pytest.mark.parametrize("name", CLIENTS)
def test_other_clients_predict_and_ask_for_status_and_metadata(modelserver: ServerProcess, name: str) -> None:
    """Status, metadata and probabilities arrive as the clients mean them."""
    command = [sys.executable, "-m", "tests.helpers.strangers", name, modelserver.address, MODEL_NAME]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout)
    assert got["states"] == {"1": "AVAILABLE", "2": "AVAILABLE"}
    assert got["shape"] == [-1, 16, 16, 3]
    expected = expected_probabilities(IMAGES, VARIANTS["plain"].labels)
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-5)
