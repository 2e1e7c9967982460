"""Resets what training sets in a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def others_are_not_deterministic() -> Iterator[None]:
    """Take back what `make_repeatable` sets for the rest of a process: an operation such as Timestamp fails then."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()
