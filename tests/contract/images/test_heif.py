"""contract/images/heif.py: AVIF by Pillow, HEIC by pi-heif."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from contract.errors import ImageError, ImageTooLargeError, UndecodableImageError
from contract.image import decode_image, read_header
from contract.model import InputSpec
from tests.helpers.fixtures import FIXTURES

SPEC = InputSpec(96, 128, reduced_decode=False)


def drawing() -> np.ndarray:
    """The picture that the HEIC fixtures hold: uint8, shape (96, 128, 3)."""
    y, x = np.mgrid[0:96, 0:128]
    return np.stack([x * 2, y * 2.5, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)], -1).clip(0, 255).astype(np.uint8)


def encode(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", **options)
    return buffer.getvalue()


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual.astype(int) - expected.astype(int)).mean())


@pytest.fixture(name="heic")
def fixture_heic() -> bytes:
    """A HEIC image of `drawing`, coded by x265 at quality 60."""
    pytest.importorskip("pi_heif")
    return (FIXTURES / "drawing.heic").read_bytes()


def test_avif_is_the_picture_that_was_coded() -> None:
    assert difference(decode_image(encode(Image.fromarray(drawing()), quality=95), SPEC), drawing()) < 2
    grey = Image.fromarray(drawing()).convert("L")
    assert difference(decode_image(encode(grey, quality=95), SPEC)[:, :, 1], np.asarray(grey)) < 2


def test_avif_orientation_and_transparency() -> None:
    """Both are applied as for other formats."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(Image.fromarray(drawing()), quality=95, exif=exif)
    upright = np.rot90(drawing(), -1)
    assert difference(decode_image(turned, InputSpec(128, 96, reduced_decode=False)), upright) < 2
    assert (6, 128, 96) == (read_header(turned).orientation, read_header(turned).width, read_header(turned).height)

    alpha = np.full((96, 128), 255, np.uint8)
    alpha[:, :40] = 0
    transparent = encode(Image.fromarray(np.dstack([drawing(), alpha])), quality=95)
    pixels = decode_image(transparent, SPEC)
    assert pixels[:, :36].max() < 20
    assert difference(pixels[:, 44:], drawing()[:, 44:]) < 3


@pytest.mark.parametrize("orientation", [None, 1, 6])
@pytest.mark.parametrize("note", ["EXIF", "XMP", "both"])
def test_avif_orientation_is_that_of_pillow(note: str, orientation: int | None) -> None:
    """Whether EXIF, the container or XMP tells it."""
    exif, xmp = Image.Exif(), b'<x tiff:Orientation="3"/>'
    exif[0x010E] = "a description"
    if orientation is not None:
        exif[0x0112] = orientation
    options = {"exif": exif if note != "XMP" else b"", "xmp": xmp if note != "EXIF" else b""}
    data = encode(Image.fromarray(drawing()), **options)

    assert Image.open(io.BytesIO(data)).getexif().get(0x0112, 1) == read_header(data).orientation


def test_an_avif_orientation_that_is_a_long_list_takes_no_memory() -> None:
    """It claims 400,000 fractions; Pillow makes an object of each."""
    count, head = 400_000, struct.pack("<2sHIH", b"II", 42, 8, 1)
    entry, claim = (
        struct.pack("<HHII", tag, kind, num, 26) for tag, kind, num in [(0x9C9B, 1, 8 * count), (0x0112, 5, count)]
    )
    plain = encode(Image.fromarray(drawing()))
    data = encode(Image.fromarray(drawing()), exif=head + entry + bytes(4 + 8 * count)).replace(entry, claim)
    tracemalloc.start()
    try:
        pixels = decode_image(data, SPEC)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert claim in data
    assert peak < 8 * len(data)
    np.testing.assert_array_equal(decode_image(plain, SPEC), pixels)


def test_heic_is_the_picture_that_was_coded(heic: bytes) -> None:
    header = read_header(heic)

    assert ("HEIC", 128, 96, "RGB") == (header.format, header.width, header.height, header.mode)
    assert difference(decode_image(heic, SPEC), drawing()) < 3


def test_heic_transparency(heic: bytes) -> None:
    assert heic
    pixels = decode_image((FIXTURES / "drawing-alpha.heic").read_bytes(), SPEC)

    assert pixels[:, :36].max() < 20
    assert difference(pixels[:, 44:], drawing()[:, 44:]) < 4


def test_too_many_pixels_are_refused_from_the_header(heic: bytes) -> None:
    for data in (heic, encode(Image.fromarray(drawing()))):
        with pytest.raises(ImageTooLargeError, match="at most 1000 pixels"):
            decode_image(data, SPEC, max_pixels=1000)


def test_damaged_files_end_in_an_image_error(heic: bytes) -> None:
    """Cut files, and 200 changed bytes of each: pixels or an ImageError."""
    rng = np.random.default_rng(3)
    for data in (heic, encode(Image.fromarray(drawing()))):
        for end in range(12, len(data) - 1, 40):
            with pytest.raises(ImageError):
                decode_image(data[:end], SPEC)
        for place, value in zip(rng.integers(0, len(data), 200), rng.integers(0, 256, 200), strict=True):
            try:
                decode_image(data[:place] + bytes([value]) + data[place + 1 :], SPEC, max_pixels=100_000)
            except ImageError:
                continue


@pytest.mark.parametrize("brand", [b"avif", b"heic", b"mif1"])
def test_a_file_of_a_header_alone_is_called_corrupt(brand: bytes) -> None:
    if brand != b"avif":
        pytest.importorskip("pi_heif")
    data = (24).to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + brand + b"miaf" + bytes(40)

    with pytest.raises(UndecodableImageError, match="header is corrupt"):
        decode_image(data, SPEC)
