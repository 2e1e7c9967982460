"""The generated sections of docs/conformance.md are what the tables of cases say."""

from __future__ import annotations

import pytest

from tests.conformance.page import PAGE, render, replace_section


def test_page_is_generated() -> None:
    """`python -m tests.conformance.page` writes it anew."""
    assert render() == PAGE.read_text(), "run: python -m tests.conformance.page"


def test_one_section_is_replaced() -> None:
    """Text outside of its markers stays."""
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"

    assert "a\n<!-- begin x -->\nnew\nlines\n<!-- end x -->\nb\n" == replace_section(page, "x", ["new", "lines"])


@pytest.mark.parametrize("page", ["", "<!-- begin x -->", "<!-- end x -->\n<!-- begin x -->"])
def test_a_page_without_markers_is_refused(page: str) -> None:
    """Rather than left as it is."""
    with pytest.raises(ValueError, match="begin x"):
        replace_section(page, "x", [])
