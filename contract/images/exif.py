"""Reads the orientation, the one tag of EXIF and XMP data that decides pixels; damage elsewhere does not matter."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

EXIF_START = b"Exif\0\0"
ORIENTATION = 0x0112  # the tag
_ENTRY_BYTES = 12
_WHOLE_NUMBERS = {3: "H", 4: "I", 8: "h", 9: "i"}  # TIFF's types
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def read_orientation(exif: bytes | None, xmp: bytes | None = None) -> int:
    """Return the orientation, 1 to 8, of EXIF data, or of XMP data where EXIF has none; 1 where neither tells."""
    value = find_tag(exif, ORIENTATION) if exif else None
    if value is None and xmp and (match := _XMP_ORIENTATION.search(xmp)):
        value = int(match[1])
    return valid_orientation(value)


def valid_orientation(value: object) -> int:
    """Return an orientation, 1 to 8; 1 for any other value."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def find_tag(data: bytes, tag: int) -> int | None:
    """Return a tag's whole number from the first directory of TIFF data; 0 if it is no number, None if it is absent."""
    start = 0
    while data.startswith(EXIF_START, start):
        start += len(EXIF_START)
    data = data[start:]
    found = None
    for place, order in entries(data):
        if struct.unpack_from(order + "H", data, place)[0] == tag:
            kind, count = struct.unpack_from(order + "HI", data, place + 2)
            number = _WHOLE_NUMBERS.get(kind)
            found = struct.unpack_from(order + number, data, place + 8)[0] if number and count == 1 else 0
    return found


def entries(data: bytes) -> Iterator[tuple[int, str]]:
    """Give the place and the byte order of each entry in the first directory of TIFF data."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return
    (num_tags,) = struct.unpack_from(order + "H", data, start)
    for i in range(min(num_tags, (len(data) - start - 2) // _ENTRY_BYTES)):
        yield start + 2 + i * _ENTRY_BYTES, order
