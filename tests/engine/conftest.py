"""A loaded tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.engine import Engine
from engine.loading import load_engine


@pytest.fixture(scope="session")
def engine(tiny_models: dict[str, Path]) -> Iterator[Engine]:
    """The plain variant on its engine, warmed up."""
    loaded = load_engine(tiny_models["plain"], warm_up=True)
    yield loaded
    loaded.close()
