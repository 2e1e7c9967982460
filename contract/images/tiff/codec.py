"""Unpacks the strips and tiles of a TIFF with libtiff, which Pillow brings.

LZW, Deflate, PackBits, Zstandard and LZMA pack bytes, whatever these mean. `unpack` describes packed strips to Pillow
as one picture of 8-bit grey, a row's bytes wide: it gets the bytes, and Pillow's table of pixel kinds has no say.
`decode_page` lets Pillow decode a whole page, for codecs that know what a pixel is (JPEG, CCITT).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from contract.images.tiff.directory import Tag

_SHORT, _LONG, _BYTE = 3, 4, 7
_MAX_SHORT = 0xFFFF


def unpack(packed: Sequence[bytes], compression: int, row_bytes: int, rows: int, num_rows: int) -> NDArray[np.uint8]:
    """Unpack consecutive strips, or tiles below each other, of `rows` rows each; the last may have fewer.

    Returns:
        uint8, shape (num_rows, row_bytes).

    Raises:
        OSError: if a strip is corrupt or has too few bytes.
    """
    tags: dict[int, Sequence[int]] = {
        Tag.WIDTH: [row_bytes],
        Tag.LENGTH: [num_rows],
        Tag.BITS: [8],
        Tag.COMPRESSION: [compression],
        Tag.PHOTOMETRIC: [1],
        Tag.SAMPLES: [1],
        Tag.ROWS_PER_STRIP: [rows],
    }
    image = _open(tags, packed)
    image.load()
    return np.asarray(image)


def decode_page(packed: Sequence[bytes], tags: Mapping[int, Sequence[int]], tables: bytes) -> Image.Image:
    """Decode a page with Pillow.

    Args:
        packed: its strips or tiles, as stored.
        tags: what Pillow is told of the page, places and sizes of the strips excepted.
        tables: JPEG's tables, which all strips share; may be empty.

    Raises:
        OSError: if a strip is corrupt.
        SyntaxError: if Pillow does not know this kind of pixel.
    """
    image = _open(tags, packed, tables)
    image.load()
    return image


def _open(tags: Mapping[int, Sequence[int]], packed: Sequence[bytes], tables: bytes = b"") -> Image.Image:
    """Write a TIFF file of one page and open it; not with Image.open, which has limits of its own for pixels."""
    places, place = [], 8
    for strip in packed:
        places.append(place)
        place += len(strip)
    tiled = Tag.TILE_WIDTH in tags
    entries: dict[int, tuple[int, Sequence[int] | bytes]] = {
        tag: (_SHORT if max(values) <= _MAX_SHORT else _LONG, values) for tag, values in tags.items() if values
    }
    entries[Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS] = (_LONG, places)
    entries[Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES] = (_LONG, [len(strip) for strip in packed])
    if tables:
        entries[Tag.JPEG_TABLES] = (_BYTE, tables)
    directory, more = [], b""
    after = place + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        kind, values = entries[tag]
        count = len(values)
        raw = values if isinstance(values, bytes) else struct.pack(f"<{count}{'H' if kind == _SHORT else 'I'}", *values)
        if len(raw) > 4:
            raw, more = struct.pack("<I", after + len(more)), more + raw
        directory.append(struct.pack("<HHI", tag, kind, count) + raw.ljust(4, b"\0"))
    head = b"II*\0" + struct.pack("<I", place)
    tail = struct.pack("<H", len(entries)) + b"".join(directory) + bytes(4) + more
    return TiffImagePlugin.TiffImageFile(io.BytesIO(b"".join([head, *packed, tail])))
