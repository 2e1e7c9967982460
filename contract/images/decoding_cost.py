"""Estimates the memory of decoding an image from its header, and refuses images beyond the budget.

The budget is 8 bytes for each of the most pixels that an image may have, and 16 MB. Most kinds take 8 bytes a pixel or
less by their nature. These may take more: a WebP image, a JPEG in several scans, whose coefficients libjpeg keeps, and
a TIFF in large strips or tiles.
"""

from __future__ import annotations

import math

from PIL import Image, TiffImagePlugin

from contract.errors import ImageTooLargeError
from contract.images.jpeg import JpegFile
from contract.images.tiff.reader import TiffPage

MAX_SIDE = 1 << 18  # resizing takes up to 32 bytes a pixel of the longer side
_BYTES_A_PIXEL = 8
_SPARE_BYTES = 12_000_000  # of the 16 MB; the rest is for what does not depend on the image
_MIN_TILE_PIXELS = 1 << 20  # a TIFF's tiles may be larger than the image, but not by any amount
_KEPT_BYTES_A_PIXEL = 4  # of a decoded picture: Pillow pads red, green and blue
_WEBP_BYTES_A_PIXEL = 20  # Pillow's decoder of animations has two canvases, a copy, and the image
# Of AVIF, the planes, the picture and a copy; of DICOM, what NumPy needs for tables and conversions of colour.
_OTHER_BYTES_A_PIXEL = {("AVIF", "RGB"): 12, ("AVIF", "RGBA"): 14, ("DICOM", "L"): 12, ("DICOM", "RGB"): 32}


def check_size(image: Image.Image, max_pixels: int) -> None:
    """Refuse an image of more than `max_pixels` or of an enormous side.

    Raises:
        ImageTooLargeError: with the limit.
    """
    num_pixels = image.width * image.height
    if num_pixels > max_pixels:
        raise ImageTooLargeError(
            f"expected at most {max_pixels} pixels. Received: {image.width} x {image.height} = {num_pixels}"
        )
    if max(image.size) > MAX_SIDE:
        raise ImageTooLargeError(f"expected sides of at most {MAX_SIDE}. Received: {image.width} x {image.height}")


def check_cost(image: Image.Image, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image whose decoding would take more memory than the budget of an image.

    Args:
        image: opened, not loaded; drafted to the scale at which it will be decoded.
        size: (width, height) by the header, before any draft.
        max_pixels: most pixels that an image may have.

    Raises:
        ImageTooLargeError: with the way round.
    """
    num_pixels = math.prod(size)
    what, cost, way_round = "image", _BYTES_A_PIXEL * num_pixels, "save it smaller"
    if isinstance(image, JpegFile) and image.header.in_several_scans:
        what, way_round = "progressive JPEG", "save it as a baseline JPEG, or smaller"
        cost = _coefficient_bytes(image, size) + _kept_bytes(image)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        what, way_round = "TIFF", "save it in small strips, or as PNG"
        cost = _strip_bytes(image, num_pixels) + _kept_bytes(image)
    elif isinstance(image, TiffPage):
        what, cost, way_round = "TIFF", image.memory_bytes, "save it in small strips, or as PNG"
    elif image.format == "WEBP":
        what, way_round = "WebP image", "save it smaller, or as PNG or JPEG"
        cost = _WEBP_BYTES_A_PIXEL * num_pixels
    elif (str(image.format), image.mode) in _OTHER_BYTES_A_PIXEL:
        what = f"{image.format} image"
        cost = _OTHER_BYTES_A_PIXEL[str(image.format), image.mode] * num_pixels
    budget = _BYTES_A_PIXEL * max_pixels + _SPARE_BYTES
    if cost > budget:
        raise ImageTooLargeError(
            f"expected a {what} that can be decoded in {budget:,} bytes of memory, {_BYTES_A_PIXEL} for each of "
            f"{max_pixels:,} pixels and some. Received: {size[0]} x {size[1]} that take {cost:,}; {way_round}"
        )


def _kept_bytes(image: Image.Image) -> int:
    return (1 if image.mode == "L" else _KEPT_BYTES_A_PIXEL) * image.width * image.height


def _coefficient_bytes(image: JpegFile, size: tuple[int, int]) -> int:
    """Return how much libjpeg's coefficients take: 2 bytes each, in whole blocks of 8 x 8."""
    layers = [(across or 1, down or 1) for _, across, down in image.header.layers]
    most_across, most_down = max(across for across, _ in layers), max(down for _, down in layers)
    num_units = math.ceil(size[0] / (8 * most_across)) * math.ceil(size[1] / (8 * most_down))
    return sum(num_units * across * down * 64 * 2 for across, down in layers)


def _strip_bytes(image: TiffImagePlugin.TiffImageFile, num_pixels: int) -> int:
    """Return how much the largest strip or tile takes; a file that is not compressed is read row by row.

    Raises:
        ImageTooLargeError: if tiles are larger than the image, so the image's size does not bound their memory.
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
