"""TIFF by decoder version 2: exact against tifffile, or refused by name; nothing else, whatever the file holds."""

from __future__ import annotations

import itertools
import re
import struct
import time
import zlib
from collections.abc import Iterable

import numpy as np
import pytest

from contract.errors import ImageError, UnsupportedImageError
from contract.image import decode_image, open_image, read_header
from contract.images.depth import scale_to_8
from contract.images.tiff.directory import Tag
from contract.model import InputSpec
from tests.contract.images.tiff_files import TiffCase, write_tiff
from tests.contract.images.tiff_matrix import (
    expected_pixels,
    pairwise_matrix,
    read_samples,
    refusal,
    whole_matrix,
)


def check(cases: Iterable[TiffCase]) -> int:
    """Compare each case; return how many there were."""
    wrong: dict[TiffCase, str] = {}
    count = 0
    for case in cases:
        count += 1
        data, words = case.file(), refusal(case)
        try:
            pixels = decode_image(data, InputSpec(case.height, case.width))
        except ImageError as err:
            if words is None or not isinstance(err, UnsupportedImageError) or not re.search(words, str(err)):
                wrong[case] = str(err)
            continue
        samples = read_samples(data) if words is None else case.values()
        if words is not None or not np.array_equal(samples, case.values()):
            wrong[case] = "read, and should not be"
        elif not np.array_equal(pixels, expected_pixels(case, samples)):
            wrong[case] = "other pixels"
    assert dict(itertools.islice(wrong.items(), 5)) == {}
    return count


def test_every_pair_of_kinds_that_are_read_is_exact() -> None:
    assert check(pairwise_matrix(read=True)) > 100


def test_every_pair_of_kinds_is_exact_or_refused_by_name() -> None:
    assert check(pairwise_matrix(read=False)) > 100


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_kind_is_exact_or_refused_by_name() -> None:
    assert check(whole_matrix()) > 10_000


@pytest.mark.parametrize("tag", ["t254", "t255"])
def test_a_first_page_that_is_a_thumbnail_is_not_the_picture(tag: str) -> None:
    small, large = TiffCase(width=8, height=6), TiffCase(width=37, height=29, bits=12)
    number, kind = int(tag[1:]), 1 if tag == "t254" else 2
    data = write_tiff([(small, small.values(), [(number, 4, [kind])]), (large, large.values(), [])])
    header = read_header(data)
    assert (header.width, header.height, header.num_frames) == (37, 29, 2)
    assert np.array_equal(decode_image(data, InputSpec(29, 37)), expected_pixels(large, large.values()))


def png(values: np.ndarray, significant: int) -> bytes:
    """Return a 16-bit grey or RGB PNG with sBIT."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 0 if channels == 1 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"sBIT", bytes([significant] * channels))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_significant_bits_of_a_png_scale_samples_that_were_not_scaled(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 30, channels))
    expected = np.broadcast_to(scale_to_8(values, 12), (20, 30, 3))
    assert np.array_equal(decode_image(png(values, 12), InputSpec(20, 30)), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_significant_bits_of_a_png_leave_scaled_samples_alone(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 30, channels))
    for scaled in (values << 4, values << 4 | values >> 8):
        spec = InputSpec(20, 30)
        assert np.array_equal(decode_image(png(scaled, 12), spec), decode_image(png(scaled, 16), spec))


@pytest.mark.parametrize(("bits", "signed"), [(1, False), (8, False), (12, False), (16, False), (12, True), (16, True)])
def test_scaling_is_that_of_the_whole_range(bits: int, signed: bool) -> None:
    lowest = -(1 << (bits - 1)) if signed else 0
    values = np.arange(lowest, lowest + (1 << bits))
    expected = np.floor((values - lowest) * 255 / ((1 << bits) - 1) + 0.5)
    for kind in ("i4", "i8") if signed else ("u2", "i4", "u4"):
        assert np.array_equal(scale_to_8(values.astype(kind), bits, signed), expected)


def test_a_damaged_file_gives_pixels_or_an_image_error() -> None:
    rng = np.random.default_rng(15)
    files = [case.file() for case in pairwise_matrix(read=True)]
    outcomes = set()
    for _ in range(3000):
        data = bytearray(files[int(rng.integers(len(files)))])
        for place in rng.integers(max(0, len(data) - 300), len(data), 3):
            data[int(place)] = int(rng.integers(256))
        if rng.random() < 0.2:
            del data[int(rng.integers(8, len(data))) :]
        try:
            decode_image(bytes(data), InputSpec(16, 16), max_pixels=2_000_000)
            outcomes.add("pixels")
        except ImageError as err:
            outcomes.add(type(err).__name__)
    assert {"pixels", "UndecodableImageError", "UnsupportedImageError"} <= outcomes


def test_long_tags_of_fractions_take_no_time() -> None:
    """On each of 64 thumbnails, every tag claims the same two million fractions."""
    count, num_pages, tags = 1 << 21, 64, set(Tag) - {Tag.NEW_SUBFILE_TYPE, Tag.SUB_IFDS}
    entries = struct.pack("<HHII", Tag.NEW_SUBFILE_TYPE, 4, 1, 1)
    entries += b"".join(struct.pack("<HHII", tag, 5, count, 8) for tag in sorted(tags))
    size = 2 + len(entries) + 4
    places = [8 + 8 * count + size * page for page in range(num_pages)]
    head = struct.pack("<2sHI", b"II", 42, places[0]) + bytes(8 * count)
    pages = (struct.pack("<H", len(tags) + 1) + entries + struct.pack("<I", place) for place in (*places[1:], 0))
    data = head + b"".join(pages)
    start = time.process_time()

    with pytest.raises(ImageError):
        open_image(data, InputSpec(16, 16))
    assert time.process_time() - start < 2


def test_very_many_pages_are_not_counted() -> None:
    """A page may take six bytes; the picture is read all the same."""
    case = TiffCase()
    data = case.file()
    (first,) = struct.unpack_from("<I", data, 4)
    (num_tags,) = struct.unpack_from("<H", data, first)
    link = first + 2 + 12 * num_tags
    places = range(len(data), len(data) + 6 * 300_000, 6)
    pages = b"".join(struct.pack("<HI", 0, place + 6) for place in places)
    long = data[:link] + struct.pack("<I", len(data)) + data[link + 4 :] + pages

    assert 2 == read_header(data[:link] + struct.pack("<I", len(data)) + data[link + 4 :] + bytes(6)).num_frames
    assert 4096 < read_header(long).num_frames < 20_000
