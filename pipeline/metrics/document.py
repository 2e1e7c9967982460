"""Metrics as JSON documents whose size grows with images and classes, not with pairs of classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_WHOLE = 20  # classes up to which every pair has its count
Counts = Sequence[Sequence[int]] | Mapping[str, Any]


def pack_counts(counts: NDArray[np.int64]) -> Counts:
    """Return counts by two classes: all rows for few classes, else the cells that are not 0.

    Args:
        counts: shape (classes, classes).

    Returns:
        A list of rows; of more than MAX_WHOLE classes, {"classes": number, "cells": [[row, column, count], ...]}.
    """
    if len(counts) <= MAX_WHOLE:
        rows: list[list[int]] = counts.tolist()
        return rows
    places = np.argwhere(counts)
    cells = np.column_stack([places, counts[tuple(places.T)]])
    return {"classes": len(counts), "cells": cells.tolist()}


def read_cells(counts: Counts) -> Iterator[tuple[int, int, int]]:
    """Yield (row, column, count) of every count that is not 0, from either form."""
    if isinstance(counts, Mapping):
        yield from (tuple(cell) for cell in counts["cells"])
        return
    yield from ((i, j, count) for i, row in enumerate(counts) for j, count in enumerate(row) if count)


def reorder_counts(counts: Counts, order: Sequence[int]) -> Counts:
    """Return counts, in the form they have, with rows and columns in another order of classes."""
    if isinstance(counts, Mapping):
        place = {old: new for new, old in enumerate(order)}
        cells = sorted([place[i], place[j], count] for i, j, count in read_cells(counts))
        return {**counts, "cells": cells}
    return [[counts[i][j] for j in order] for i in order]


def format_document(document: Mapping[str, Any]) -> str:
    """Return JSON with a line for each key and no blanks inside a value."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
