"""Writes JSON as text: compact documents, and arrays of numbers piece by piece."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.gateway.bodies.json_document import B64

_PIECE: Final = 1 << 13  # numbers or texts that are written at a time
# json.dumps makes an encoder for each call whose options are not the default ones.
_DOCUMENTS: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ARRAYS: Final = json.JSONEncoder(separators=(",", ":"))


def dump(document: Mapping[str, Any]) -> str:
    """Return compact JSON.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    return _DOCUMENTS.encode(document)


def dump_arrays(document: Mapping[str, Any]) -> str:
    """Return JSON; NaN and infinities as the bare words that TensorFlow Serving writes and its clients read.

    It is written piece by piece: each call of the standard library, which holds the interpreter, is short.
    """
    return "".join(_dump(document))


class JsonArray:
    """An output that is written as nested lists.

    Args:
        name: the output's; one that ends in "_bytes" is written in base64.
        array: the values.
    """

    __slots__ = ("_array", "_name")

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self._name = name
        self._array = array

    def __iter__(self) -> Iterator[JsonArray]:
        """Give the rows."""
        return (JsonArray(self._name, np.asarray(row, self._array.dtype)) for row in self._array)

    def __eq__(self, other: object) -> bool:
        """Compare with the nested lists that it stands for."""
        return bool(self.tolist() == other)

    __hash__ = None  # type: ignore[assignment]

    def tolist(self) -> Any:
        """Return nested lists of JSON values."""
        array = self._array
        if array.dtype.kind == "O":
            boxed = np.empty(array.size, dtype=object)
            boxed[:] = [_text_or_binary(self._name, item) for item in array.reshape(-1).tolist()]
            return boxed.reshape(array.shape).tolist()
        if array.dtype.kind == "f" and array.dtype.itemsize < 8:
            # The shortest digits that give back the same number; tolist() would show a float64's.
            return np.array([float(text) for text in array.reshape(-1).astype(str)]).reshape(array.shape).tolist()
        return array.tolist()

    def dump(self) -> Iterator[str]:
        """Give its JSON in pieces."""
        if self._array.size <= _PIECE or not self._array.ndim:
            yield _dump_short(self.tolist())
            return
        if self._array.ndim == 1:
            parts = (self._array[start : start + _PIECE] for start in range(0, len(self._array), _PIECE))
            yield "["
            for i, part in enumerate(parts):
                yield "," * bool(i) + _dump_short(JsonArray(self._name, part).tolist())[1:-1]
            yield "]"
            return
        yield from _dump_items(self)


def to_json(name: str, array: NDArray[Any]) -> JsonArray:
    """Return an output as `dump_arrays` writes it."""
    return JsonArray(name, array)


def _dump(value: Any) -> Iterator[str]:
    if isinstance(value, JsonArray):
        yield from value.dump()
    elif isinstance(value, Mapping):
        for i, (name, item) in enumerate(value.items()):
            yield ("," if i else "{") + json.dumps(name) + ":"
            yield from _dump(item)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        yield from _dump_items(value)
    else:
        yield _dump_short(value)


def _dump_items(items: Iterable[Any]) -> Iterator[str]:
    yield "["
    for i, item in enumerate(items):
        if i:
            yield ","
        yield from _dump(item)
    yield "]"


def _dump_short(value: Any) -> str:
    return _ARRAYS.encode(value)


def _text_or_binary(name: str, value: bytes) -> Any:
    if not name.endswith("_bytes"):
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {B64: base64.b64encode(value).decode()}
