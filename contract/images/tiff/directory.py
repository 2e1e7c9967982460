"""Reads the directories of a TIFF or BigTIFF file and finds the picture among its pages.

A directory is read from a bounded number of entries; of the tags only those in `Tag` are looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from contract.errors import UndecodableImageError
from contract.images.exif import valid_orientation
from contract.images.image_file import count_parts

STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # two of them wrong, and written by some programs
_MAX_PAGES = 64  # that are looked at for the picture
_MAX_ENTRIES = 4096
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_OLD_REDUCED = 2  # of SubfileType
_KINDS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_FRACTIONS = {5: "u4", 10: "i4"}
_MAX_FRACTIONS = 16  # of a tag; those that are known have up to six
# By type: bytes of a number, and what it costs Pillow in numbers; of bytes and texts it makes one object.
_NUMBER_BYTES = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_NUMBER_OBJECTS = {**dict.fromkeys(_NUMBER_BYTES, 1), 5: 16, 10: 16}


class Tag(IntEnum):
    """Tags that say how pixels are stored."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANAR = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_IFDS = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    IMAGE_DEPTH = 32997


_KNOWN = frozenset(int(tag) for tag in Tag)


@dataclass(frozen=True, slots=True)
class Directory:
    """One page's tags.

    Attributes:
        order: "<" or ">", the byte order of the file.
        tags: each tag's values; fractions as floats.
        next: place of the next page's directory; 0 after the last.
    """

    order: str
    tags: Mapping[int, NDArray[np.generic]]
    next: int

    def values(self, tag: Tag) -> list[int]:
        """Return a tag's values; none if it is absent."""
        found = self.tags.get(tag)
        return [] if found is None else [int(value) for value in found[:_MAX_ENTRIES]]

    def value(self, tag: Tag, default: int) -> int:
        """Return a tag's first value."""
        found = self.tags.get(tag)
        return default if found is None or not found.size else int(found[0])

    @property
    def is_picture(self) -> bool:
        """True unless the page is a reduced image of another page, or a mask."""
        kind = self.value(Tag.NEW_SUBFILE_TYPE, 0)
        return not kind & (_REDUCED | _MASK) and self.value(Tag.SUBFILE_TYPE, 1) != _OLD_REDUCED


class TiffFile:
    """A TIFF file's directories."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        self._big = b"+" in data[2:4]
        if self._big and self._number("H", 4) != 8:
            raise UndecodableImageError("the TIFF image cannot be decoded: it is corrupt (BigTIFF offset size)")
        self._first = self._number("Q", 8) if self._big else self._number("I", 4)

    def picture(self) -> tuple[Directory, int]:
        """Return the page that is the picture, and its EXIF orientation.

        The picture is the first page that does not call itself a reduced image or a mask, SubIFDs included, in the
        file's order; the first page if all do. A page without an orientation has that of the first page.
        """
        first = self._read(self._first)
        page = next((page for page in self._pages(first) if page.is_picture), first)
        orientation = page.value(Tag.ORIENTATION, first.value(Tag.ORIENTATION, 1))
        return page, valid_orientation(orientation)

    def count_pages(self) -> int:
        """Return how many pages the file has, SubIFDs not counted; of very many, those that were looked at."""
        seen: set[int] = set()
        place, parts = self._first, count_parts(self._data)
        while place and place not in seen:
            seen.add(place)
            try:
                next(parts)
                count = self._number("Q" if self._big else "H", place)
                place = self._next(place, count)
            except UndecodableImageError:
                break
        return len(seen)

    def count_numbers(self) -> int:
        """Return how many numbers the first page's tags hold, as far as they are in the file; a fraction counts more.

        Decoder version 1 reads all of them: Pillow makes an object of each.
        """
        count = self._number("Q" if self._big else "H", self._first)
        start, size = (self._first + 8, 20) if self._big else (self._first + 2, 12)
        total = 0
        for place in range(start, min(start + size * min(count, _MAX_ENTRIES), len(self._data) - size + 1), size):
            (kind,) = struct.unpack_from(self._order + "H", self._data, place + 2)
            number = self._number("Q" if self._big else "I", place + 4)
            if number * _NUMBER_BYTES.get(kind, 1) <= len(self._data):
                total += number * _NUMBER_OBJECTS.get(kind, 0)
        return total

    def _pages(self, first: Directory) -> Iterator[Directory]:
        """Give the pages in the file's order, each before its SubIFDs."""
        num_left = _MAX_PAGES
        page: Directory | None = first
        while page is not None and num_left > 0:
            yield page
            num_left -= 1
            for place in page.values(Tag.SUB_IFDS)[:num_left]:
                num_left -= 1
                sub = self._try_read(place)
                if sub is not None:
                    yield sub
            page = self._try_read(page.next) if page.next else None

    def _try_read(self, place: int) -> Directory | None:
        try:
            return self._read(place)
        except UndecodableImageError:
            return None

    def _read(self, place: int) -> Directory:
        count = self._number("Q" if self._big else "H", place)
        start, size = (place + 8, 20) if self._big else (place + 2, 12)
        if count > _MAX_ENTRIES or start + count * size > len(self._data):
            raise UndecodableImageError("the TIFF image cannot be decoded: it is truncated (directory)")
        tags: dict[int, NDArray[np.generic]] = {}
        for i in range(count):
            tag, kind = struct.unpack_from(self._order + "HH", self._data, start + i * size)
            if tag in _KNOWN and tag not in tags:
                values = self._values(kind, start + i * size + 4)
                if values is not None:
                    tags[tag] = values
        try:
            following = self._next(place, count)
        except UndecodableImageError:  # the last directory of some files ends without the link
            following = 0
        return Directory(self._order, tags, following)

    def _values(self, kind: int, place: int) -> NDArray[np.generic] | None:
        """Return an entry's values; None if they are of a type that no known tag has."""
        code = "Q" if self._big else "I"
        room = 8 if self._big else 4
        count = self._number(code, place)
        name = _KINDS.get(kind) or _FRACTIONS.get(kind)
        if name is None:
            return None
        dtype = np.dtype(self._order + name)
        number = count * (2 if kind in _FRACTIONS else 1)
        start = place + room
        if number * dtype.itemsize > room:
            start = self._number(code, start)
        if start + number * dtype.itemsize > len(self._data):
            raise UndecodableImageError("the TIFF image cannot be decoded: it is truncated (tags)")
        if kind not in _FRACTIONS:
            return np.frombuffer(self._data, dtype, number, start)  # no copy, so that its length does not matter
        values = np.frombuffer(self._data, dtype, min(number, 2 * _MAX_FRACTIONS), start)
        fractions: NDArray[np.float64] = values[0::2].astype(np.float64) / np.maximum(values[1::2], 1)
        return fractions

    def _next(self, place: int, count: int) -> int:
        return self._number("Q", place + 8 + count * 20) if self._big else self._number("I", place + 2 + count * 12)

    def _number(self, code: str, place: int) -> int:
        if place < 0 or place + struct.calcsize("=" + code) > len(self._data):
            raise UndecodableImageError("the TIFF image cannot be decoded: it is truncated")
        return int(struct.unpack_from(self._order + code, self._data, place)[0])
