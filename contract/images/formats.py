"""The formats that are read, each told by a file's first bytes and opened by a module of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import TiffImagePlugin

from contract.errors import UndecodableImageError, UnsupportedImageError
from contract.images import bmp, gif, heif, jpeg, png, webp
from contract.images.dicom import reader as dicom
from contract.images.exif import ORIENTATION, valid_orientation
from contract.images.image_file import ImageFile, Opened, load_pixels
from contract.images.tiff.directory import STARTS as _TIFF_STARTS
from contract.images.tiff.directory import TiffFile
from contract.images.tiff.reader import TiffPage

_WAY_ROUND = "convert it to PNG or JPEG first"
_NOT_READ = b"MM\0+"  # a BigTIFF that Pillow takes for a TIFF
_MAX_NUMBERS = 1 << 18  # in the tags of a page; two of each strip or tile, and those of tables
_BYTES_A_NUMBER = 64  # of the file, at least, on average, beyond those


def open_tiff(data: bytes) -> Opened:
    """Read a TIFF's header by decoder version 1.

    Raises:
        UnsupportedImageError: if it is of a kind that is not read.
        UndecodableImageError: if its tags are damaged.
    """
    _check_numbers(data)
    try:
        image = TiffImagePlugin.TiffImageFile(ImageFile(data))
    except (SyntaxError, OSError) as err:
        raise UnsupportedImageError(
            f"expected a TIFF of a common kind. Received: {len(data)} bytes of another; {_WAY_ROUND}"
        ) from err
    orientation = valid_orientation(image.getexif().get(ORIENTATION, 1))

    return Opened(
        "TIFF", image, orientation, lambda: int(image.n_frames), partial(load_pixels, image), turns_itself=True
    )


def _check_numbers(data: bytes) -> None:
    """Refuse a TIFF whose tags hold very many numbers, strips of one row included: Pillow makes an object of each.

    Raises:
        UndecodableImageError: if there are more than a picture in the file needs.
    """
    if data.startswith(_NOT_READ) or TiffFile(data).count_numbers() > _MAX_NUMBERS + len(data) // _BYTES_A_NUMBER:
        raise UndecodableImageError("the TIFF image cannot be decoded: its tags are not those of a picture")


def _open_tiff_page(data: bytes) -> Opened:
    """Read a TIFF's header by decoder version 2."""
    page = TiffPage(data)

    return Opened("TIFF", page, page.orientation, lambda: page.n_frames, partial(load_pixels, page))


def _starting(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(starts)


# A format's name, what knows its files by their first bytes, and its reader.
_READERS: dict[str, tuple[Callable[[bytes], bool], Callable[[bytes, int], Opened]]] = {
    "JPEG": (_starting(jpeg.START + b"\xff"), lambda data, _: jpeg.open_jpeg(data)),
    "PNG": (_starting(png.START), png.open_png),
    "WEBP": (webp.starts_webp, lambda data, _: webp.open_webp(data)),
    "BMP": (_starting(bmp.START), lambda data, _: bmp.open_bmp(data)),
    # Before TIFF: the bytes before its mark may make a DICOM file a TIFF too.
    "DICOM": (dicom.is_dicom, lambda data, _: dicom.open_dicom(data)),
    "TIFF": (
        _starting(*_TIFF_STARTS),
        lambda data, decoder: open_tiff(data) if decoder == 1 else _open_tiff_page(data),
    ),
    "GIF": (_starting(*gif.STARTS), lambda data, _: gif.open_gif(data)),
    "AVIF": (heif.is_avif, lambda data, _: heif.open_avif(data)),
    "HEIC": (heif.is_heic, lambda data, _: heif.open_heic(data)),
}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIC", "DICOM")


def open_file(data: bytes, decoder: int) -> Opened:
    """Read an image file's header by a version of the decoder's rules.

    Raises:
        UnsupportedImageError: if the format or its variant is not read.
        UndecodableImageError: if the header is corrupt.
    """
    name = find_format(data)
    if name is None:
        raise UnsupportedImageError(
            f"expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}. Received: {_describe_bytes(data)}"
        )
    return _READERS[name][1](data, decoder)


def find_format(head: bytes) -> str | None:
    """Return the name of the format, one of FORMATS, that a file's first 256 bytes tell; None for another file."""
    return next((name for name, (is_format, _) in _READERS.items() if is_format(head)), None)


def _describe_bytes(data: bytes) -> str:
    """Name the kind of a file that is no image, where that helps; never echoes the contents."""
    for prefix, what in _OTHER_IMAGES:
        if data.startswith(prefix):
            return f"{what}; {_WAY_ROUND}"
    start = data[:512].lstrip().lower()
    for prefix, what in _OTHER_FILES:
        if start.startswith(prefix):
            return what
    return f"{len(data)} bytes of another format"


_OTHER_IMAGES = (
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 code stream"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL code stream"),
    (b"II\xbc", "a JPEG XR image"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"BA", "an OS/2 array of bitmaps"),
    (b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (b"\x8bJNG\r\n\x1a\n", "a JNG image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"DDS ", "a DirectDraw surface"),
)
_OTHER_FILES = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document"),
    (b"%pdf", "a PDF document"),
    (b"pk\x03\x04", "a zip archive"),
    (b"{", "JSON"),
)
