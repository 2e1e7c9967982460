"""Reads parts of a protobuf message without the rest.

A SavedModel with constant weights is a message of 100 MB whose signatures are some kilobytes. Parsing it whole holds
Python's lock for 80 ms, during which a server that loads a version answers no call, and as much memory again.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

from contract.files.regular import check_regular
from contract.varint import encode_varint, read_varint

_GROUP = 2  # the wire type of whatever has a length: messages, texts, bytes


def read_without(path: Path, message: int, left_out: Collection[int]) -> bytes:
    """Return the bytes of a file's message, with some fields of the messages in one of its fields left out.

    Args:
        path: the file.
        message: number of the field whose messages are made smaller.
        left_out: numbers of the fields that are left out there.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not a message.
    """
    parts = []
    check_regular(path)
    with path.open("rb") as file:
        if not path.stat().st_size:
            return b""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for number, begin, contents, end in _fields(data, 0, len(data)):
                if number != message:
                    parts.append(data[begin:end])
                    continue
                kept = b"".join(data[b:e] for n, b, _, e in _fields(data, contents, end) if n not in left_out)
                parts.append(encode_varint(message << 3 | _GROUP) + encode_varint(len(kept)) + kept)
    return b"".join(parts)


def _fields(data: mmap.mmap, begin: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Return number, begin, begin of the contents, and end of each field between two positions."""
    while begin < stop:
        tag, contents = read_varint(data, begin)
        kind = tag & 7
        if kind == 0:
            _, end = read_varint(data, contents)
        elif kind == _GROUP:
            length, contents = read_varint(data, contents)
            end = contents + length
        elif kind in (1, 5):
            end = contents + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"expected a field. Received: wire type {kind} at byte {begin}")
        if end > stop:
            raise ValueError(f"a field ends at byte {end}, after its message")
        yield tag >> 3, begin, contents, end
        begin = end
