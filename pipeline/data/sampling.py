"""Chooses images by content and seed: a set with a few more images gives nearly the same choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.data.split import ManifestRow


def choose_rows(rows: Sequence[ManifestRow], most: int, *, seed: int) -> list[ManifestRow]:
    """Return at most so many rows, in their order.

    Each image has a rank of its own, so what was computed for the images of an earlier choice serves the next one.

    Args:
        rows: to choose from.
        most: how many.
        seed: of the ranks.
    """
    if len(rows) <= most:
        return list(rows)
    ranks = [hashlib.sha256(f"{seed} {row.sha256}".encode()).digest() for row in rows]
    chosen = sorted(range(len(rows)), key=lambda i: (ranks[i], rows[i].path))[: max(0, most)]
    return [rows[i] for i in sorted(chosen)]
