"""Writes TIFF files of any layout, from samples, for tests of the reader."""

from __future__ import annotations

import itertools
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

PHOTOMETRICS = {
    "white is zero": 0, "black is zero": 1, "RGB": 2, "palette": 3, "CMYK": 5, "YCbCr": 6, "CIELAB": 8, "ICC Lab": 9,
}  # fmt: skip
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
COMPRESSIONS = {
    "none": 1, "LZW": 5, "Deflate": 8, "old Deflate": 32946, "PackBits": 32773, "LZMA": 34925, "zstd": 50000,
}  # fmt: skip
EXTRAS: dict[str, tuple[int, ...]] = {"none": (), "unspecified": (0,), "associated": (1,), "unassociated": (2,)}
FORMATS = {"unsigned": 1, "signed": 2, "float": 3}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class TiffCase:
    """One layout of a TIFF file."""

    photometric: str = "black is zero"
    bits: int = 8
    order: str = "<"
    planar: bool = False
    compression: str = "none"
    predictor: int = 1
    layout: str = "strips"
    extra: str = "none"
    fill_order: int = 1
    big: bool = False
    sample_format: str = "unsigned"
    width: int = 37
    height: int = 29

    @property
    def samples(self) -> int:
        """Samples a pixel."""
        return COLORS[PHOTOMETRICS[self.photometric]] + len(EXTRAS[self.extra])

    def values(self, seed: int = 0) -> NDArray[Any]:
        """Return random samples, shape (height, width, samples), with both ends of the range among them."""
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 1 << min(self.bits, 16), (self.height, self.width, self.samples), dtype=np.int64)
        values[0, 0], values[0, 1] = 0, (1 << min(self.bits, 16)) - 1
        return values

    def palette(self) -> NDArray[np.uint16]:
        """Return 16-bit colours, shape (3, 2**bits)."""
        return np.random.default_rng(1).integers(0, 65536, (3, 1 << min(self.bits, 16)), dtype=np.uint16)

    def file(self, values: NDArray[Any] | None = None, **tags: tuple[int, Sequence[int]]) -> bytes:
        """Return the file's bytes.

        Args:
            values: samples, shape (height, width, samples).
            tags: further tags, as t123=(type, values).
        """
        values = self.values() if values is None else values
        rows = [(int(tag[1:]), kind, list(numbers)) for tag, (kind, numbers) in tags.items()]
        return write_tiff([(self, values, rows)])


def write_tiff(pages: list[tuple[TiffCase, NDArray[Any], list[tuple[int, int, list[int]]]]]) -> bytes:
    """Return a file of several pages; byte order and size of offsets are those of the first."""
    first = pages[0][0]
    order, big = first.order, first.big
    body = bytearray(16)
    links: list[int] = []
    for case, values, rows in pages:
        case = replace(case, order=order, big=big)
        tags = _page_tags(case, values, body)
        tags = [row for row in tags if row[0] not in {extra[0] for extra in rows}] + rows
        links.append(_write_directory(body, tags, order, big))
    start = struct.pack(order + "Q", links[0]) if big else struct.pack(order + "I", links[0])
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)) + start
    body[: len(head)] = head
    for place, following in itertools.pairwise(links):
        count = struct.unpack_from(order + ("Q" if big else "H"), body, place)[0]
        link = place + 8 + 20 * count if big else place + 2 + 12 * count
        struct.pack_into(order + ("Q" if big else "I"), body, link, following)
    return bytes(body)


def _page_tags(case: TiffCase, values: NDArray[Any], body: bytearray) -> list[tuple[int, int, list[int]]]:
    height, width, samples = values.shape
    rows_each = {"one strip": height, "strips": 7, "rows": 1, "tiles": 16}[case.layout]
    across = [(x, 16) for x in range(0, width, 16)] if case.layout == "tiles" else [(0, width)]
    planes = [values[:, :, i, None] for i in range(samples)] if case.planar else [values]
    offsets, counts = [], []
    for plane in planes:
        for top in range(0, height, rows_each):
            for left, columns in across:
                block = plane[top : top + rows_each, left : left + columns]
                if case.layout == "tiles":
                    block = np.pad(block, ((0, 16 - block.shape[0]), (0, 16 - block.shape[1]), (0, 0)))
                data = _pack(case, block)
                body += bytes(len(body) % 2)
                offsets.append(len(body))
                counts.append(len(data))
                body += data
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [case.bits] * samples),
        (259, 3, [COMPRESSIONS[case.compression]]), (262, 3, [PHOTOMETRICS[case.photometric]]),
        (277, 3, [samples]), (284, 3, [2 if case.planar else 1]),
    ]  # fmt: skip
    if case.layout == "tiles":
        tags += [(322, 3, [16]), (323, 3, [16]), (324, 4, offsets), (325, 4, counts)]
    else:
        tags += [(273, 4, offsets), (278, 4, [rows_each]), (279, 4, counts)]
    if case.fill_order != 1:
        tags.append((266, 3, [case.fill_order]))
    if case.predictor != 1:
        tags.append((317, 3, [case.predictor]))
    if case.extra != "none":
        tags.append((338, 3, list(EXTRAS[case.extra])))
    if case.sample_format != "unsigned":
        tags.append((339, 3, [FORMATS[case.sample_format]] * samples))
    if case.photometric == "palette":
        tags.append((320, 3, [int(value) for value in case.palette().ravel()]))
    if case.photometric == "YCbCr":
        tags.append((530, 3, [1, 1]))
    return tags


def _pack(case: TiffCase, block: NDArray[Any]) -> bytes:
    """Return a strip's or tile's bytes: predicted, packed into bits, compressed, with bits in the file's order."""
    rows, columns, depth = block.shape
    if case.sample_format == "float":
        raw = (block / 7).astype(np.dtype(f"{case.order}f{max(2, case.bits // 8)}")).tobytes()
    else:
        if case.predictor == 2:
            block = np.diff(block, axis=1, prepend=np.zeros((rows, 1, depth), block.dtype)) & (
                (1 << min(case.bits, 32)) - 1
            )
        flat = block.reshape(rows, columns * depth)
        if case.bits in (8, 16, 32, 64):
            raw = flat.astype(np.dtype(f"{case.order}u{case.bits // 8}")).tobytes()
        else:
            bits = (flat[:, :, None] >> np.arange(case.bits)[::-1]) & 1
            raw = np.packbits(bits.reshape(rows, -1).astype(np.uint8), axis=1).tobytes()
    data = _compress(case.compression, raw, len(raw) // rows)
    return data.translate(_REVERSED) if case.fill_order == 2 else data


def _compress(name: str, raw: bytes, row_bytes: int) -> bytes:
    if name == "none":
        return raw
    if name == "PackBits":  # each row by itself, as the standard asks
        return b"".join(imagecodecs.packbits_encode(raw[i : i + row_bytes]) for i in range(0, len(raw), row_bytes))
    if name == "LZW":
        return bytes(imagecodecs.lzw_encode(raw))
    if name == "zstd":
        return bytes(imagecodecs.zstd_encode(raw))
    return lzma.compress(raw) if name == "LZMA" else zlib.compress(raw)


def _write_directory(body: bytearray, tags: list[tuple[int, int, list[int]]], order: str, big: bool) -> int:
    """Append a directory and what its tags refer to; return its place."""
    codes = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
    room, code = (8, "Q") if big else (4, "I")
    entries = b""
    for tag, kind, values in sorted(tags):
        raw = struct.pack(f"{order}{len(values)}{codes[kind]}", *values)
        if len(raw) > room:
            body += bytes(len(body) % 2)
            place = len(body)
            body += raw
            raw = struct.pack(order + code, place)
        entries += struct.pack(f"{order}HH{code}", tag, kind, len(values)) + raw.ljust(room, b"\0")
    body += bytes(len(body) % 2)
    start = len(body)
    body += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(room)
    return start
