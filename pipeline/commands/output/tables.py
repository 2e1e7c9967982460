"""Columns of text, and numbers that may be absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with the columns aligned: the first one to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def format_number(value: float | None) -> str:
    """Return a ratio with four digits, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def format_interval(interval: Sequence[float] | None) -> str:
    """Return a 95 % interval in brackets, or nothing."""
    return "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]"


def describe_images(measured: Mapping[str, Any], noun: str = "image") -> str:
    """Return the images and groups behind measured figures, such as "120 images in 60 groups"."""
    images, groups = measured["images"], measured["groups"]
    return f"{images} {noun}{'' if images == 1 else 's'} in {groups} group{'' if groups == 1 else 's'}"
