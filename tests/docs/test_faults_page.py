"""docs/faults.md: the tests that it names exist, and every test of faults is named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS
from tests.repository.project import ROOT

NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (DOCS / "faults.md").read_text(encoding="utf-8"))


def defined_tests(path: Path) -> set[str]:
    """Return the names of a file's tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_named_test_exists(path: str, name: str) -> None:
    """A test that was renamed or deleted is not on the page any more."""
    assert name in defined_tests(ROOT / path)


def test_every_row_names_a_test_and_every_test_has_a_row() -> None:
    """No outcome is only promised, and no fault that is tested is left out."""
    text = (DOCS / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    here = {name for path in (ROOT / "tests/faults").glob("test_*.py") for name in defined_tests(path)}

    assert len(rows) == len(NAMED) > 20
    assert here <= {name for _, name in NAMED}
