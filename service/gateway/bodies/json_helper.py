"""Parses a JSON document in a process of its own: `python -m service.gateway.bodies.json_helper`.

The standard library's parser holds the interpreter until it has read the whole document. Here it holds no server's.

Read from stdin, again and again until it ends: the length of a document (8 bytes, little-endian), the document.
Written to stdout: the length of what follows, then a pickle of a tuple: ("ok", document, number of arrays) or
("error", kind, arguments). Lists of numbers in the document are NumPy arrays.
"""

from __future__ import annotations

import gc
import json
import pickle
import signal
import struct
import sys
from typing import IO, Any

import numpy as np

LENGTH = struct.Struct("<Q")
MAX_NODES = 200_000  # values of a document that is sent back, beside numbers in arrays
_MIN_ARRAY = 64  # numbers; fewer stay a list
_MAX_TRIES = 4  # nested lists that turn out not to be an array; their values are left as they are


class TooManyNodesError(Exception):
    """A document holds too many values beside arrays of numbers."""


def main() -> None:
    """Answer until stdin ends. Signals are for the server, which then ends stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()  # JSON has no cycles, and looking for them in millions of lists takes longer than parsing
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(LENGTH.size):
        reply = parse(source.read(*LENGTH.unpack(head)))
        _send(target, reply)
        del reply


def parse(body: bytes) -> tuple[str, Any, Any]:
    """Return the bytes on stdout for a document."""
    try:
        document = json.loads(body)
        return ("ok", _Packer().pack(document), None)
    except json.JSONDecodeError as err:
        return ("syntax", err.msg, err.pos)
    except (TooManyNodesError, MemoryError):
        return ("nodes", None, None)
    except (ValueError, RecursionError):
        return ("value", None, None)


class _Packer:
    """Puts arrays in the place of lists of numbers."""

    def __init__(self) -> None:
        self._nodes_left = MAX_NODES

    def pack(self, value: Any, tries: int = _MAX_TRIES) -> Any:
        """Return a value with arrays in it.

        Raises:
            TooManyNodesError: if too much is left beside them.
        """
        if isinstance(value, list):
            if tries and _starts_with_number(value):
                array = _to_array(value)
                if array is not None:
                    return array if array.size >= _MIN_ARRAY else self._count(value, array.size)
                tries -= 1
            self._count(value, len(value))
            return [self.pack(item, tries) for item in value]
        if isinstance(value, dict):
            self._count(value, len(value))
            return {_check_text(name): self.pack(item, tries) for name, item in value.items()}
        return _check_text(value) if isinstance(value, str) else value

    def _count(self, value: Any, number: int) -> Any:
        self._nodes_left -= number
        if self._nodes_left < 0:
            raise TooManyNodesError
        return value


def _check_text(text: str) -> str:
    """Raises UnicodeEncodeError, a ValueError, for half a surrogate pair: pickle reads millions of them slowly."""
    if not text.isascii():
        text.encode()
    return text


def _starts_with_number(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float)


def _to_array(value: list[Any]) -> np.ndarray[Any, Any] | None:
    """Return numbers or booleans in lists of equal lengths as an array, with as few bytes as hold them."""
    try:
        array = np.asarray(value)
    except (ValueError, RecursionError, OverflowError):
        return None
    if array.dtype.kind not in "biuf":
        return None
    if array.dtype.kind == "i" and array.size:
        lowest, highest = array.min(), array.max()
        for dtype in (np.uint8, np.int32):
            if np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max:
                return array.astype(dtype)
    return array


def _send(target: IO[bytes], reply: tuple[str, Any, Any]) -> None:
    data = pickle.dumps(reply, protocol=5)
    target.write(LENGTH.pack(len(data)))
    target.write(data)
    target.flush()


if __name__ == "__main__":
    main()
