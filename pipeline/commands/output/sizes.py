"""Bytes in words."""

from __future__ import annotations


def format_size(size: int) -> str:
    """Return a number of bytes for people, such as "97.8 MB"."""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
