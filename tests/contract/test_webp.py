"""WebP is decoded into less memory than by Pillow, and to the same pixels."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import contract.image
import contract.images.decoding_cost
import contract.images.webp
from contract.errors import ImageTooLargeError, UndecodableImageError
from contract.image import decode_image
from contract.images.webp import decode_webp
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


REFUSALS = (OSError, EOFError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError)
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


def by_pillow(data: bytes) -> NDArray[np.uint8] | None:
    try:
        return np.asarray(Image.open(io.BytesIO(data), formats=["WEBP"]))
    except REFUSALS:
        return None


def by_us(data: bytes) -> NDArray[np.uint8] | None:
    image = Image.open(io.BytesIO(data), formats=["WEBP"])
    try:
        return np.asarray(decode_webp(data, mode=image.mode, size=image.size, info={}))
    except ValueError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_pillows(kind: str) -> None:
    """Still pictures and first frames, lossy and not, with alpha and without."""
    expected = by_pillow(KINDS[kind])

    assert expected is not None
    np.testing.assert_array_equal(expected, by_us(KINDS[kind]))


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)


@example(kind="animation", changes=[(26, 16)])  # a canvas of 94 million pixels
@given(kind=st.sampled_from(sorted(KINDS)), changes=CHANGES)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_damaged_files_too(kind: str, changes: list[tuple[int, int]]) -> None:
    """What Pillow can read of a damaged file is read, to the same pixels, and nothing that it cannot.

    The damages are the same every time. One is known that this does not hold for: an animation whose first frame's
    picture chunk has lost its name (byte 68) is refused here, and read by Pillow, which goes on to what follows.
    """
    data = bytearray(KINDS[kind])
    for place, value in changes:
        data[place % len(data)] = value
    damaged = bytes(data)
    try:
        Image.open(io.BytesIO(damaged), formats=["WEBP"])
    except (*REFUSALS, Image.DecompressionBombWarning):
        return  # contract.image refuses these too, before anything is decoded
    expected, received = by_pillow(damaged), by_us(damaged)

    assert (expected is None) == (received is None)
    if expected is not None:
        np.testing.assert_array_equal(expected, received)


def test_a_truncated_picture_is_undecodable() -> None:
    """The container is whole, the picture in it is not."""
    picture = KINDS["lossy"][20:-200]
    data = chunk(b"RIFF", b"WEBP" + chunk(b"VP8 ", picture))

    with pytest.raises(UndecodableImageError):
        decode_image(data, InputSpec(height=8, width=8))


def test_without_the_library_pillow_decodes_what_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pillow that hides libwebp's functions gives the same pixels, and large images are refused."""
    spec = InputSpec(height=8, width=8)
    expected = decode_image(KINDS["lossy-alpha"], spec)
    for module in (contract.images.webp, contract.image):
        monkeypatch.setattr(module, "find_library", lambda: None)

    np.testing.assert_array_equal(expected, decode_image(KINDS["lossy-alpha"], spec))
    with pytest.raises(ImageTooLargeError, match=r"WebP image .* save it as PNG or JPEG"):
        decode_image(save(Image.new("RGB", (1200, 1200)), quality=1), spec)
