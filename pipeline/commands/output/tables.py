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


def describe_tta(measured: Mapping[str, Any]) -> list[str]:
    """Return lines on test-time augmentation beside plain predictions; none where it was not measured."""
    found = measured.get("tta")
    if not found:
        return []
    rows = [["", "plain", f"{found['views']} views", "gain"]]
    for name, values in found["metrics"].items():
        sides = [f"{values[side]:.4f}{format_interval(values[f'{side}_interval'])}" for side in ("plain", "averaged")]
        rows.append(
            [name.replace("_", " "), *sides, f"{values['gain']:+.4f}{format_interval(values['gain_interval'])}"]
        )
    rows.append(["ms a picture", *(f"{found['milliseconds'][side]:.2f}" for side in ("plain", "averaged")), ""])
    changed = f"{found['changed_class']} of {found['images']} images change their class by it"
    return [
        f"test-time augmentation: {changed}; every other figure, the gate and the service are without it",
        *format_table(rows),
    ]
