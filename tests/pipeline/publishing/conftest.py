"""Labels for the foreign models of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(name="labels")
def fixture_labels(tmp_path: Path) -> Path:
    """Three names, one a line."""
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nowl\n")
    return path
