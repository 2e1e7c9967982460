"""Alpha that is 0 everywhere is no alpha; any other lays the picture over black."""

from __future__ import annotations

import dataclasses
import io
import struct

import numpy as np
import pytest
from PIL import Image

from contract.image import decode_image
from contract.model import InputSpec

SPEC = InputSpec(30, 40)
NOISE = np.random.default_rng(0).integers(1, 256, (30, 40, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE)
GREY, PALETTE = RGB.convert("L"), RGB.quantize(8)


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def clear(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(0)
    return image


def bmp(alpha: int, head: int) -> bytes:
    """Return a BMP with masks for four channels, of a V4 or V5 header."""
    pixels = np.concatenate([NOISE[::-1, :, ::-1], np.full((30, 40, 1), alpha, np.uint8)], axis=2).tobytes()
    info = struct.pack("<IiiHHIIiiII4I", head, 40, 30, 1, 32, 3, len(pixels), 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF,
                       0xFF000000)  # fmt: skip
    info = info.ljust(head, b"\0")
    return struct.pack("<2sIHHI", b"BM", 14 + head + len(pixels), 0, 0, 14 + head) + info + pixels


CLEAR = {
    "png": (save(clear(RGB), "PNG"), RGB),
    "png-grey": (save(clear(GREY), "PNG"), GREY),
    "png-palette": (save(PALETTE, "PNG", transparency=bytes(8)), PALETTE),
    "png-animated": (save(clear(RGB), "PNG", save_all=True, append_images=[RGB.convert("RGBA")]), RGB),
    "png-one-colour": (
        save(Image.new("RGB", (40, 30), (7, 8, 9)), "PNG", transparency=(7, 8, 9)),
        Image.new("RGB", (40, 30), (7, 8, 9)),
    ),
    "webp": (save(clear(RGB), "WEBP", lossless=True, exact=True), RGB),
    "gif": (
        save(Image.new("P", (40, 30), 0), "GIF", transparency=0),
        save(Image.new("P", (40, 30), 0), "GIF"),
    ),
    "tiff": (save(clear(RGB), "TIFF"), RGB),
    "bmp-v4": (bmp(0, 108), RGB),
    "bmp-v5": (bmp(0, 124), RGB),
}


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize("color", ["rgb", "grey"])
def test_alpha_that_is_0_everywhere_is_no_alpha(name: str, color: str) -> None:
    """The picture is that of the same pixels without alpha; version 1 makes it black."""
    data, plain = CLEAR[name]
    spec = dataclasses.replace(SPEC, color=color, channels=3 if color == "rgb" else 1)
    expected = plain if isinstance(plain, bytes) else save(plain, "PNG")

    np.testing.assert_array_equal(decode_image(expected, spec), decode_image(data, spec))
    assert not decode_image(data, dataclasses.replace(spec, decoder=1)).any()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("place", [(0, 0), (39, 29), (20, 15)])
def test_one_pixel_that_shows_keeps_the_others_transparent(kind: str, place: tuple[int, int]) -> None:
    """Wherever it is."""
    image = clear(RGB)
    image.putpixel(place, (255, 255, 255, 255))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}

    assert 3 * 255 == decode_image(save(image, kind, **options), SPEC).sum()


@pytest.mark.parametrize("row", [0, 999, 1999])
def test_pictures_of_several_strips(row: int) -> None:
    """One row decides for all strips."""
    pixels = np.full((2000, 600, 4), 200, np.uint8)
    pixels[..., 3] = 0
    spec = InputSpec(2000, 600)
    whole = save(Image.fromarray(pixels), "PNG", compress_level=1)
    pixels[row, ..., 3] = 255
    one = save(Image.fromarray(pixels), "PNG", compress_level=1)

    assert (decode_image(whole, spec) == 200).all()
    assert [row] == list(np.flatnonzero(decode_image(one, spec).any(axis=(1, 2))))


def test_bmp_with_alpha_is_laid_over_black() -> None:
    """Half transparent is half as bright."""
    assert np.abs(decode_image(bmp(128, 124), SPEC).astype(int) - NOISE // 2).max() <= 1
