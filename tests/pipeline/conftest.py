"""What training leaves behind in a process, and where its longest tests stand."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_LONGEST = "test_families.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the file first that takes longest, so that no core waits for it in the end."""
    items.sort(key=lambda item: item.path.name != _LONGEST)


@pytest.fixture(autouse=True, scope="module")
def others_are_not_deterministic() -> Iterator[None]:
    """Take back what `make_repeatable` sets for the rest of a process: an operation such as Timestamp fails then."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()
