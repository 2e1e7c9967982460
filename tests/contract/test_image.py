"""contract/image.py: every kind of file becomes the same kind of array, or a clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from contract.errors import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    UndecodableImageError,
    UnsupportedImageError,
)
from contract.image import decode_image, read_header
from contract.model import InputSpec
from tests.helpers.odd_images import damaged_exif, picture, write

SPEC = InputSpec(16, 16)


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def gradient(width: int = 40, height: int = 24) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 2000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def apple_png() -> bytes:
    """A PNG with the chunk of Apple's devices."""
    data = encode(gradient())
    return data[:8] + struct.pack(">I", 4) + b"CgBI" + bytes(8) + data[8:]


def bmp_header(head: int, bits: int, compression: int) -> bytes:
    """A BMP of 4 x 4 pixels."""
    info = struct.pack("<IiiHHIIiiII", head, 4, 4, 1, bits, compression, 64, 0, 0, 0, 0).ljust(head, b"\0")
    return struct.pack("<2sIHHI", b"BM", 14 + len(info) + 64, 0, 0, 14 + len(info)) + info + bytes(1100)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_allowed_format_is_decoded(image_format: str) -> None:
    """Each format on the allow-list gives uint8 RGB of the contract's size, near the original's colours."""
    data = encode(gradient(), image_format)

    actual = decode_image(data, InputSpec(24, 40, reduced_decode=False))

    assert (24, 40, 3) == actual.shape
    assert np.uint8 == actual.dtype
    assert np.abs(actual.astype(int) - np.asarray(gradient()).astype(int)).mean() < 12


@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic", "area"])
def test_resize_is_pillows(resize: str) -> None:
    """Stretching equals Pillow's own resize with the same filter."""
    filters = {"nearest": 0, "bilinear": 2, "bicubic": 3, "area": 4}

    actual = decode_image(encode(gradient()), InputSpec(16, 16, resize=resize))

    assert np.array_equal(np.asarray(gradient().resize((16, 16), filters[resize])), actual)


def test_crop_keeps_the_centre() -> None:
    """fit=crop cuts the longer side evenly and keeps the aspect ratio."""
    image = Image.new("RGB", (48, 16), "blue")
    image.paste("red", (16, 0, 32, 16))

    actual = decode_image(encode(image), InputSpec(16, 16, fit="crop"))

    assert ([255, 0, 0] == actual).all()


def test_pad_adds_black_bars() -> None:
    """fit=pad keeps the whole image and fills the rest with black."""
    actual = decode_image(encode(Image.new("RGB", (48, 16), "red")), InputSpec(16, 48 // 3, fit="pad"))

    assert (actual[:5] == 0).all()
    assert (actual[-5:] == 0).all()
    assert ([255, 0, 0] == actual[7:9]).all()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, image_format: str) -> None:
    """A photograph turned by its EXIF tag comes out upright, at reduced scale and where loading turns it too."""
    transpose = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = gradient(96, 64)
    stored = upright.transpose(transpose[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 95, "subsampling": 0} if image_format == "JPEG" else {}
    data = encode(stored, image_format, exif=exif.tobytes(), **options)

    actual = decode_image(data, InputSpec(16, 24))

    expected = np.asarray(upright.resize((24, 16), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(actual.astype(int) - expected).max() < 24
    assert orientation == read_header(data).orientation


def test_sixteen_bit_grey_is_scaled_over_the_whole_range() -> None:
    """65535 becomes 255 and 257 becomes 1, whatever the image's own brightest pixel is."""
    values = np.array([[0, 257], [32896, 65535]], np.uint16).repeat(8, 0).repeat(8, 1)

    actual = decode_image(encode(Image.fromarray(values)), InputSpec(16, 16, resize="nearest"))

    assert [0, 1, 128, 255] == [int(actual[y, x, 0]) for y in (0, 15) for x in (0, 15)]


def test_transparent_pixels_are_laid_over_black() -> None:
    """The hidden colour of a transparent pixel is not shown."""
    image = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    image.putpixel((3, 5), (255, 0, 0, 255))
    actual = decode_image(encode(image), SPEC)

    assert [255, 0, 0] == actual[5, 3].tolist()
    assert 255 == actual.sum()


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(Image.new("L", (16, 16), 100), id="grey"),
        pytest.param(Image.new("LA", (16, 16), (100, 255)), id="grey-alpha"),
        pytest.param(Image.new("RGB", (16, 16), (100, 100, 100)).quantize(4), id="palette"),
        pytest.param(Image.new("RGB", (16, 16), (100, 100, 100)), id="rgb"),
        pytest.param(Image.new("RGBA", (16, 16), (100, 100, 100, 255)), id="rgba"),
    ],
)
def test_grey_pictures_of_any_mode_are_equal(image: Image.Image) -> None:
    """The same grey comes out of every pixel mode, in colour and in grey."""
    data = encode(image)

    assert (decode_image(data, SPEC) == 100).all()
    assert (decode_image(data, InputSpec(16, 16, 1, "grey")) == 100).all()


def test_palette_with_transparency_is_laid_over_black() -> None:
    """A transparent palette entry is black, not its stored colour."""
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((3, 5), 1)

    assert 255 == decode_image(encode(image, transparency=0), SPEC).sum()


def test_cmyk_jpeg_becomes_rgb() -> None:
    """A CMYK photograph keeps its colours."""
    data = encode(Image.new("RGB", (32, 32), (200, 40, 40)).convert("CMYK"), "JPEG", quality=95)

    actual = decode_image(data, SPEC)

    assert np.abs(actual.astype(int) - [200, 40, 40]).max() < 8


def test_animated_gif_gives_its_first_frame() -> None:
    """Later frames are not read."""
    first, second = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))

    data = encode(first, "GIF", save_all=True, append_images=[second])

    assert ([255, 0, 0] == decode_image(data, SPEC)).all()
    assert 2 == read_header(data).num_frames


def test_reduced_decode_stays_near_the_full_one() -> None:
    """Decoding a large JPEG at a smaller scale moves pixels by a few grey levels only."""
    data = encode(gradient(640, 480), "JPEG", quality=95)

    reduced = decode_image(data, InputSpec(60, 80)).astype(int)
    full = decode_image(data, InputSpec(60, 80, reduced_decode=False)).astype(int)

    assert np.abs(reduced - full).max() <= 6


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        pytest.param(b"", EmptyImageError, "empty", id="empty"),
        pytest.param(b"<!DOCTYPE html><html></html>", UnsupportedImageError, "an HTML page", id="html"),
        pytest.param(b"hello, I am text", UnsupportedImageError, "16 bytes of another format", id="text"),
        pytest.param(b"%PDF-1.7 ...", UnsupportedImageError, "PDF", id="pdf"),
        pytest.param(
            b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), UnsupportedImageError, "a JPEG XL image; convert", id="jxl"
        ),
        pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), UnsupportedImageError, "JPEG 2000 image; conv", id="jp2"),
        pytest.param(apple_png(), UnsupportedImageError, r"Apple's devices \(CgBI\); convert", id="cgbi"),
        pytest.param(bmp_header(40, 24, 4), UnsupportedImageError, "with a JPEG inside; convert", id="bmp-jpeg"),
        pytest.param(bmp_header(40, 24, 5), UnsupportedImageError, "with a PNG inside", id="bmp-png"),
        pytest.param(bmp_header(40, 2, 0), UnsupportedImageError, "with 2 bits a pixel", id="bmp-2-bit"),
        pytest.param(bmp_header(40, 64, 0), UnsupportedImageError, "with 64 bits a pixel", id="bmp-64-bit"),
        pytest.param(bmp_header(64, 24, 4), UnsupportedImageError, "run lengths of 24 bits", id="bmp-os2-rle24"),
        pytest.param(bmp_header(64, 1, 3), UnsupportedImageError, "Huffman", id="bmp-os2-huffman"),
        pytest.param(bmp_header(40, 16, 3), UnsupportedImageError, "colour masks", id="bmp-masks"),
        pytest.param(bmp_header(99, 24, 0), UnsupportedImageError, "a header of 99 bytes", id="bmp-header"),
        pytest.param(b'{"images": []}', UnsupportedImageError, "JSON", id="json"),
        pytest.param(encode(gradient(), "JPEG")[:-200], UndecodableImageError, "truncated", id="cut-jpeg"),
        pytest.param(encode(gradient())[:-60], UndecodableImageError, "cannot be decoded", id="cut-png"),
        pytest.param(encode(gradient(), "JPEG")[:30], ImageError, "truncated", id="jpeg-header-only"),
        pytest.param(
            encode(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), UnsupportedImageError, "floating", id="float"
        ),
        pytest.param(png_header(30_000, 30_000), ImageTooLargeError, "pixels", id="bomb"),
        pytest.param(png_header(9_000, 9_400), ImageTooLargeError, "9000 x 9400", id="too-many-pixels"),
    ],
)
def test_bad_input_is_refused_with_its_reason(data: bytes, error: type[ImageError], words: str) -> None:
    """Every kind of bad input has its own error, which says what was expected and received."""
    with pytest.raises(error, match=words):
        decode_image(data, SPEC)


def test_pixel_limit_is_the_callers() -> None:
    """A header that declares more than max_pixels is refused before any pixel is decoded."""
    with pytest.raises(ImageTooLargeError, match="at most 100 pixels"):
        decode_image(encode(gradient()), SPEC, max_pixels=100)


def test_header_is_read_without_decoding() -> None:
    """A file whose pixels are cut off still tells its size."""
    header = read_header(encode(gradient(400, 240), "JPEG")[:-400])

    assert ("JPEG", 400, 240, "RGB", 1, 1) == (
        header.format,
        header.width,
        header.height,
        header.mode,
        header.orientation,
        header.num_frames,
    )


def test_result_is_contiguous_and_writable_by_nobody_else() -> None:
    """The array owns its memory layout, so it can go onto the wire as it is."""
    actual = decode_image(encode(gradient()), SPEC)

    assert actual.flags.c_contiguous


def test_orientation_is_applied_though_other_exif_tags_are_damaged() -> None:
    """An unneeded tag does not make a good photograph unreadable."""
    spec = InputSpec(30, 40)
    sideways = decode_image(write(picture(), "JPEG", exif=damaged_exif(6), quality=95), spec)
    expected = decode_image(write(picture().transpose(Image.Transpose.ROTATE_270), "PNG"), spec)

    assert np.abs(sideways.astype(int) - expected.astype(int)).mean() < 4
