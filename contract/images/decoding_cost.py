"""What decoding an image takes, told from its header; what would take too much memory is refused before it does.

Decoding takes at most 8 bytes a pixel that the header declares, and 16 MB. Most kinds take less by their nature. These
depend on the file: a JPEG in several scans, whose coefficients libjpeg keeps, and a TIFF in large strips or tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from PIL import Image, JpegImagePlugin, TiffImagePlugin

from contract.errors import ImageTooLargeError
from contract.images import webp

MAX_SIDE = 1 << 18  # resizing takes up to 32 bytes a pixel of the longer side
_BYTES_A_PIXEL = 8
_SPARE_BYTES = 12_000_000  # of the 16 MB; the rest is for what does not depend on the image
_MIN_TILE_PIXELS = 1 << 20  # a TIFF's tiles may be larger than the image, but not by any amount
_KEPT_BYTES_A_PIXEL = 4  # of a decoded picture: Pillow pads red, green and blue
_WEBP_BYTES_A_PIXEL = 20  # where Pillow's decoder of animations has to do it
_MARKER, _START_OF_SCAN = 0xFF, 0xDA


def check_size(image: Image.Image, max_pixels: int) -> None:
    """Refuse an image of more than `max_pixels` or of an enormous side.

    Raises:
        ImageTooLargeError: with what was expected.
    """
    num_pixels = image.width * image.height
    if num_pixels > max_pixels:
        raise ImageTooLargeError(
            f"expected at most {max_pixels} pixels. Received: {image.width} x {image.height} = {num_pixels}"
        )
    if max(image.size) > MAX_SIDE:
        raise ImageTooLargeError(f"expected sides of at most {MAX_SIDE}. Received: {image.width} x {image.height}")


def check_cost(image: Image.Image, data: bytes, size: tuple[int, int]) -> None:
    """Refuse an image whose decoding would take more memory than its pixels may.

    Args:
        image: opened, not loaded; drafted to the scale at which it will be decoded.
        data: the file's bytes.
        size: (width, height) by the header, before any draft.

    Raises:
        ImageTooLargeError: with the way round.
    """
    num_pixels = math.prod(size)
    what, cost, way_round = "image", 0, ""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and in_several_scans(image, data):
        what, way_round = "progressive JPEG", "save it as a baseline JPEG, or smaller"
        cost = _coefficient_bytes(image, size) + _kept_bytes(image)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        what, way_round = "TIFF", "save it in small strips, or as PNG"
        cost = _strip_bytes(image, num_pixels) + _kept_bytes(image)
    elif image.format == "WEBP" and webp.find_library() is None:
        what, way_round = "WebP image", "save it as PNG or JPEG"
        cost = _WEBP_BYTES_A_PIXEL * num_pixels
    allowed = _BYTES_A_PIXEL * num_pixels + _SPARE_BYTES
    if cost > allowed:
        raise ImageTooLargeError(
            f"expected a {what} that can be decoded in {allowed} bytes of memory, {_BYTES_A_PIXEL} a pixel and some. "
            f"Received: {size[0]} x {size[1]} that take {cost}; {way_round}"
        )


def _kept_bytes(image: Image.Image) -> int:
    return (1 if image.mode == "L" else _KEPT_BYTES_A_PIXEL) * image.width * image.height


def in_several_scans(image: JpegImagePlugin.JpegImageFile, data: bytes) -> bool:
    """Return whether libjpeg keeps all coefficients: it is progressive, or its components come one after the other."""
    return bool(image.info.get("progressive")) or _components_in_first_scan(data) != image.layers


def _components_in_first_scan(data: bytes) -> int:
    """Return how many components a JPEG's first scan holds; 0 if there is none."""
    return next((data[place + 4] for marker, place in jpeg_markers(data) if marker == _START_OF_SCAN), 0)


def jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Give each marker of a JPEG that has a length, and its place, up to the first scan."""
    place = 2
    while place + 4 < len(data):
        marker = data[place + 1] if data[place] == _MARKER else _MARKER
        if marker == _MARKER:  # padding, or bytes that no decoder minds
            place += 1
        elif marker <= 1 or 0xD0 <= marker <= 0xD8:  # markers without a length
            place += 2
        else:
            yield marker, place
            if marker == _START_OF_SCAN:
                return
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def _coefficient_bytes(image: JpegImagePlugin.JpegImageFile, size: tuple[int, int]) -> int:
    """Return how much libjpeg's coefficients take: 2 bytes each, in whole blocks of 8 x 8."""
    layers = [(across or 1, down or 1) for _, across, down, _ in image.layer]
    most_across, most_down = max(across for across, _ in layers), max(down for _, down in layers)
    num_units = math.ceil(size[0] / (8 * most_across)) * math.ceil(size[1] / (8 * most_down))
    return sum(num_units * across * down * 64 * 2 for across, down in layers)


def _strip_bytes(image: TiffImagePlugin.TiffImageFile, num_pixels: int) -> int:
    """Return how much the largest strip or tile takes; a file that is not compressed is read row by row.

    Raises:
        ImageTooLargeError: if tiles are larger than the image, so that the image says nothing of what they take.
    """
    tags = image.tag_v2
    tile_pixels = _whole(tags.get(TiffImagePlugin.TILEWIDTH)) * _whole(tags.get(TiffImagePlugin.TILELENGTH))
    if tile_pixels > max(num_pixels, _MIN_TILE_PIXELS):
        raise ImageTooLargeError(f"expected tiles no larger than the image. Received: tiles of {tile_pixels} pixels")
    if _whole(tags.get(TiffImagePlugin.COMPRESSION), 1) == 1:
        return 0
    return math.ceil(strip_pixels(image, num_pixels) * pixel_bits(image) / 8)


def strip_pixels(image: TiffImagePlugin.TiffImageFile, num_pixels: int) -> int:
    """Return how many pixels a TIFF's largest strip or tile holds."""
    tags = image.tag_v2
    tile = _whole(tags.get(TiffImagePlugin.TILEWIDTH)) * _whole(tags.get(TiffImagePlugin.TILELENGTH))
    rows = _whole(tags.get(TiffImagePlugin.ROWSPERSTRIP), image.height)
    return tile or min(rows * image.width, num_pixels)


def pixel_bits(image: TiffImagePlugin.TiffImageFile) -> int:
    """Return how many bits a pixel of a TIFF takes when it is unpacked."""
    bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    return sum(_whole(value) for value in (bits if isinstance(bits, tuple) else (bits,)))


def _whole(value: object, default: int = 0) -> int:
    return value if isinstance(value, int) else default
