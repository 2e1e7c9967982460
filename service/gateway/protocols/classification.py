"""The largest values of an output as texts (Triton's extension `classification` of the Open Inference Protocol)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.gateway.context.errors import InvalidArgumentError


def rank_classes(name: str, array: NDArray[Any], count: int, *, labels: Sequence[str]) -> NDArray[Any]:
    """Returns the largest values of each row, largest first, as `value:index:label`.

    Args:
        name: the output's, for errors.
        array: integers or floating-point numbers; the first axis is the batch if there are two axes or more, and the
            other axes together are one row.
        count: values of each row; all, if there are fewer.
        labels: names of the classes; left out of the texts if they are not as many as a row has values.

    Returns:
        Bytes, shape (batch, count), or (count,) for an array of at most one axis. Of equal values the first comes
        first; NaN comes last.

    Raises:
        InvalidArgumentError: if the output has no numbers.
    """
    if array.dtype.kind not in "iuf":
        raise InvalidArgumentError(f"outputs: {name!r} has no numbers, which classification ranks")
    batch = array.shape[0] if array.ndim > 1 else 1
    rows = array.reshape(batch, array.size // batch if batch else 0)
    top = _rank(rows)[:, :count]
    values = np.take_along_axis(rows, top, axis=1).astype(str)  # the shortest digits that give back the number
    tails = [f":{label}" for label in labels] if len(labels) == rows.shape[1] else [""] * rows.shape[1]
    texts = np.empty(top.shape, dtype=object)
    for place, index in np.ndenumerate(top):
        texts[place] = f"{values[place]}:{index}{tails[index]}".encode()
    return texts if array.ndim > 1 else texts[0]


def _rank(rows: NDArray[Any]) -> NDArray[np.intp]:
    """Returns the indices that sort each row downwards; a stable sort of the reversed row, read backwards."""
    comparable = np.where(np.isnan(rows), -np.inf, rows) if rows.dtype.kind == "f" else rows
    order: NDArray[np.intp] = rows.shape[1] - 1 - np.argsort(comparable[:, ::-1], axis=1, kind="stable")[:, ::-1]
    return order
