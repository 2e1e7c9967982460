"""Variable-length integers, as protobuf's wire format has them: seven bits a byte, the lowest first."""

from __future__ import annotations

import mmap

_MAX_BYTES = 10  # of 64 bits


def encode_varint(value: int) -> bytes:
    """Return the bytes of a number from 0 up to 2**64 - 1."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes | mmap.mmap, position: int) -> tuple[int, int]:
    """Return the number at a position and the position after it.

    Raises:
        ValueError: if the data ends before the number, or the number is longer than 10 bytes.
    """
    value = 0
    for shift in range(0, 7 * _MAX_BYTES, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"expected a number of at most {_MAX_BYTES} bytes. Received: another before byte {position}")
