"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, marks, *rows])


def number(value: float | None, digits: int = 1) -> str:
    """Return a number for a cell; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"
