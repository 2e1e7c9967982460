"""WebP is read from the chunks that make its picture, to Pillow's pixels, within the memory of an image."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from contract.errors import ImageError, ImageTooLargeError, UndecodableImageError
from contract.image import decode_image, read_header
from contract.images.webp import is_lossless, open_webp
from contract.model import InputSpec

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 23, 4), dtype=np.uint8))
SMOOTH = NOISE.resize((120, 90), Image.Resampling.BICUBIC)


def save(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body + bytes(len(body) % 2)


def animation(picture: bytes, place: tuple[int, int], canvas: tuple[int, int]) -> bytes:
    """Return an animation of one frame, somewhere on a canvas; the picture is that of a still WebP."""
    sides = Image.open(io.BytesIO(picture)).size
    chunks = picture[30:] if picture[12:16] == b"VP8X" else picture[12:]
    numbers = (place[0] // 2, place[1] // 2, sides[0] - 1, sides[1] - 1, 100)
    head = b"".join(number.to_bytes(3, "little") for number in numbers) + b"\0"
    extended = struct.pack("<I", 0x12) + b"".join((side - 1).to_bytes(3, "little") for side in canvas)
    body = b"WEBP" + chunk(b"VP8X", extended) + chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", head + chunks)
    return chunk(b"RIFF", body)


KINDS = {
    "lossy": save(SMOOTH.convert("RGB"), quality=60),
    "lossy-noise": save(NOISE.convert("RGB"), quality=90),
    "lossy-alpha": save(SMOOTH, quality=60),
    "lossless": save(NOISE.convert("RGB"), lossless=True),
    "lossless-alpha": save(NOISE, lossless=True, exact=True),
    "animation": save(SMOOTH.convert("RGB"), save_all=True, append_images=[SMOOTH.rotate(90).convert("RGB")]),
    "animation-alpha": save(NOISE, save_all=True, append_images=[NOISE.rotate(180)]),
    "frame-on-canvas": animation(save(NOISE, quality=60), (4, 6), (60, 50)),
    "lossless-frame-on-canvas": animation(save(NOISE, lossless=True), (0, 2), (40, 40)),
}
CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data), formats=["WEBP"]))


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_pillows(kind: str) -> None:
    """Still pictures and first frames, lossy and not, with alpha and without."""
    np.testing.assert_array_equal(by_pillow(KINDS[kind]), np.asarray(open_webp(KINDS[kind]).load()))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_coding_are_told(kind: str) -> None:
    """By the chunks alone."""
    assert (2 if kind.startswith("animation") else 1) == read_header(KINDS[kind]).num_frames
    assert is_lossless(KINDS[kind]) == kind.startswith("lossless")


@given(kind=st.sampled_from(sorted(KINDS)), changes=CHANGES)
@settings(max_examples=200)
def test_what_pillow_reads_of_a_damaged_file_is_read(kind: str, changes: list[tuple[int, int]]) -> None:
    """To the same pixels; no damage raises another error."""
    data = bytearray(KINDS[kind])
    for place, value in changes:
        data[place % len(data)] = value
    damaged = bytes(data)
    try:
        received = np.asarray(open_webp(damaged).load()) if read_header(damaged, max_pixels=10**6) else None
    except (ImageError, OSError, EOFError):
        return
    try:
        expected = by_pillow(damaged)
    except (OSError, EOFError, ValueError):
        return  # damage in a part that makes no pixels
    np.testing.assert_array_equal(expected, received)


def test_a_truncated_picture_is_undecodable() -> None:
    """The container is whole, the picture in it is not."""
    picture = KINDS["lossy"][20:-200]
    data = chunk(b"RIFF", b"WEBP" + chunk(b"VP8 ", picture))

    with pytest.raises(UndecodableImageError):
        decode_image(data, InputSpec(height=8, width=8))


def test_a_large_picture_is_refused_with_the_budget() -> None:
    """Pillow takes 20 bytes a pixel for it; the budget is 8 for each of the most pixels, and 12 MB."""
    data = save(Image.new("RGB", (1200, 1200)), quality=1)
    spec = InputSpec(height=8, width=8)

    assert (8, 8, 3) == decode_image(data, spec, max_pixels=2_200_000).shape
    with pytest.raises(ImageTooLargeError, match=r"WebP image .* 1,440,000 pixels .* take 28,800,000; save it smaller"):
        decode_image(data, spec, max_pixels=1_440_000)
