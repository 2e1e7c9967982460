"""JPEGs of cameras with several pictures, without an end marker, and of kinds that are not read."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from contract.errors import ImageError, UndecodableImageError, UnsupportedImageError
from contract.image import decode_image, open_image, read_header
from contract.model import InputSpec

REDUCED = InputSpec(30, 40)
WHOLE = InputSpec(93, 121, reduced_decode=False)
NOISE = np.random.default_rng(0).integers(0, 256, (93, 121, 3), dtype=np.uint8)
PICTURES = {
    "smooth": Image.fromarray(NOISE[:12, :15]).resize((121, 93), Image.Resampling.BICUBIC),
    "noise": Image.fromarray(NOISE),
    "flat": Image.new("RGB", (121, 93), (200, 30, 60)),
    "grey": Image.fromarray(NOISE[..., 0]),
    "cmyk": Image.fromarray(NOISE).convert("CMYK"),
}
OPTIONS = {
    "baseline": {},
    "all-colours": {"quality": 95, "subsampling": 0},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "many-restarts": {"restart_marker_blocks": 3},
    "progressive-restarts": {"progressive": True, "restart_marker_rows": 1},
}


def save(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("options", OPTIONS)
def test_only_the_end_marker_may_be_missing(picture: str, options: str) -> None:
    """Cut by one or two bytes the picture is whole; cut by more it is refused, or the bytes said nothing."""
    data = save(PICTURES[picture], **OPTIONS[options])
    for spec in (WHOLE, REDUCED):
        expected = decode_image(data, spec)
        for cut in (1, 2):
            np.testing.assert_array_equal(expected, decode_image(data[:-cut], spec))
        for cut in (*range(3, 12), 30, 100, len(data) // 3, len(data) // 2):
            try:
                pixels = decode_image(data[:-cut], spec)
            except ImageError:
                continue
            assert cut <= 4, "a byte of padding and half of the last code at most"
            np.testing.assert_array_equal(expected, pixels)


def test_a_cut_between_the_scans_of_a_progressive_jpeg_is_refused() -> None:
    """Every scan that is there is whole."""
    data = save(PICTURES["smooth"], progressive=True)
    starts = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]

    assert len(starts) > 4
    for start in starts[1:]:
        tables = data.rindex(b"\xff\xc4", 0, start)
        with pytest.raises(UndecodableImageError, match="truncated"):
            decode_image(data[:tables], WHOLE)


def test_a_jpeg_without_end_marker_is_decoded_several_times_and_estimated_so() -> None:
    """The estimate counts every decoding."""
    data = save(PICTURES["noise"].resize((2000, 1500)))
    once = 2e-9 * 2000 * 1500

    assert open_image(data[:-2], WHOLE).seconds > open_image(data, WHOLE).seconds + 4 * once


@pytest.mark.timeout(60)
def test_a_run_of_padding_takes_no_time() -> None:
    """Megabytes of 0xFF, which may precede any marker, with no marker behind it."""
    padding = b"\xff" * (2 << 20)
    data = save(PICTURES["smooth"])

    with pytest.raises(UndecodableImageError, match="truncated before its first scan"):
        open_image(b"\xff\xd8" + padding, WHOLE)
    np.testing.assert_array_equal(decode_image(data, WHOLE), decode_image(data[:2] + padding + data[2:], WHOLE))
    with pytest.raises(UndecodableImageError):
        decode_image(data[:-2] + padding, WHOLE)


def test_time_of_decoding_grows_with_padding_and_no_faster() -> None:
    """Of 16 MB behind the pixels, libjpeg would look at all again with each block that it is given."""
    data = save(PICTURES["smooth"])[:-2] + b"\xff" * (16 << 20)
    start = time.process_time()

    with pytest.raises(UndecodableImageError):
        decode_image(data, WHOLE)
    assert time.process_time() - start < 2.5


def test_restart_markers_take_no_memory() -> None:
    """A million of them, behind the last scan and in place of the end marker."""
    data = save(PICTURES["smooth"], progressive=True, restart_marker_rows=1)[:-2] + b"\xff\xd0" * (1 << 20)
    tracemalloc.start()
    try:
        with contextlib.suppress(UndecodableImageError):
            decode_image(data, WHOLE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * len(data)


def test_many_parts_behind_the_last_scan_are_refused() -> None:
    """As those before it; each is looked at by itself."""
    data = save(PICTURES["smooth"], progressive=True)[:-2] + b"\xff\xfe\0\2" * 100_000

    with pytest.raises(UndecodableImageError, match="too many small parts"):
        decode_image(data, WHOLE)


@pytest.mark.parametrize("spec", [REDUCED, WHOLE], ids=["reduced", "whole"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_further_pictures_of_a_camera_change_nothing(spec: InputSpec, orientation: int) -> None:
    """The pixels and the scale are those of the JPEG without them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = PICTURES["smooth"].resize((1210, 930))
    alone = save(image, quality=85, exif=exif)
    several = save(image, "MPO", quality=85, exif=exif, save_all=True, append_images=[image.rotate(90)] * 2)
    header = read_header(several)

    np.testing.assert_array_equal(decode_image(alone, spec), decode_image(several, spec))
    assert ("JPEG", 3, orientation) == (header.format, header.num_frames, header.orientation)
    assert dataclasses.replace(header, num_frames=1) == read_header(alone)


def test_version_1_decodes_these_whole() -> None:
    """Its pixels stay: no reduced scale for a file with further pictures."""
    image = PICTURES["noise"].resize((1210, 930))
    several = save(image, "MPO", quality=85, save_all=True, append_images=[image])
    old = dataclasses.replace(REDUCED, decoder=1)

    np.testing.assert_array_equal(
        decode_image(several, dataclasses.replace(old, reduced_decode=False)), decode_image(several, old)
    )
    assert not np.array_equal(decode_image(several, REDUCED), decode_image(several, old))


def test_an_index_of_pictures_takes_no_memory() -> None:
    """It lists a million pictures, or its tags refer to the same bytes."""
    data = save(PICTURES["smooth"])
    for entries in (
        struct.pack("<HHII", 0xB001, 4, 1, 10**6) + struct.pack("<HHII", 0xB002, 7, 1 << 30, 8),
        struct.pack("<HHII", 0xB002, 7, 60_000, 8) * 5000,
    ):
        index = b"MPF\0" + struct.pack("<2sHIH", b"II", 42, 8, len(entries) // 12) + entries
        changed = data[:20] + struct.pack(">BBH", 0xFF, 0xE2, len(index) + 2) + index + data[20:]

        np.testing.assert_array_equal(decode_image(data, WHOLE), decode_image(changed, WHOLE))
        assert 1 == read_header(changed).num_frames


def frame(marker: int, *, bits: int = 8, height: int | None = None) -> bytes:
    """Return a JPEG whose frame says that it is of another kind."""
    data = bytearray(save(PICTURES["smooth"]))
    start = data.index(b"\xff\xc0")
    data[start + 1], data[start + 4] = marker, bits
    if height is not None:
        struct.pack_into(">H", data, start + 5, height)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (frame(0xC1, bits=12), "a JPEG of 12 bits"),
        (frame(0xC3), "a lossless JPEG"),
        (frame(0xC3, bits=16), "a lossless JPEG of 16 bits"),
        (frame(0xC5), "a hierarchical JPEG"),
        (frame(0xCB), "a rare coding"),
        (frame(0xC0, height=0), "whose height follows"),
        (b"\xff\xd8\xff\xf7\0\x0b" + bytes(40), "JPEG-LS"),
    ],
)
def test_a_kind_that_is_not_read_is_named(data: bytes, words: str) -> None:
    """With what to do."""
    with pytest.raises(UnsupportedImageError, match=f"Received: .*{words}.*; save it as a baseline JPEG"):
        decode_image(data, WHOLE)
