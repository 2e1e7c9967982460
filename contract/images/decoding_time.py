"""Estimates the CPU time of decoding an image from its header, before any pixel is decoded.

The figures are nanoseconds on the reference machine (one core of an AMD EPYC, AVX2, quiet), measured by
`python -m benchmarks decoding_rates` and rounded up. A time per pixel holds for pictures that compress to nothing; the
time per byte of the file adds what detail costs. docs/decisions/0027 compares estimates and measured times.
"""

from __future__ import annotations

import math

from PIL import Image, TiffImagePlugin

from contract.images.decoding_cost import pixel_bits, strip_pixels
from contract.images.dicom.reader import DicomImageFile
from contract.images.jpeg import JpegFile, num_loads
from contract.images.tiff.reader import TiffPage
from contract.images.webp import is_lossless
from contract.model import InputSpec

Rate = tuple[float, float]  # nanoseconds a pixel, nanoseconds a byte of the file

_BASE_NS = 50_000.0  # opening any file

# JPEG by number of components, then by the scale of a reduced decode.
_JPEG: dict[int, dict[int, float]] = {
    1: {1: 0.9, 2: 0.7, 4: 0.5, 8: 0.4},
    3: {1: 2.4, 2: 1.3, 4: 0.7, 8: 0.6},
    4: {1: 3.4, 2: 1.9, 4: 1.3, 8: 1.0},
}
_JPEG_BYTE = 7.5
_JPEG_BYTE_IN_SCANS = 13.0  # where there are several: each looks at what those before it have found
_JPEG_SCAN = 0.6  # a pixel, for each scan beyond the first
_JPEG_RARE: Rate = (40.0, 120.0)  # arithmetic coding and lossless JPEG
_SCAN_START = b"\xff\xda"

# PNG by colour type and bits, with the filter that takes longest (Paeth).
_PNG: dict[tuple[int, int], float] = {
    (0, 1): 1.2, (0, 2): 1.6, (0, 4): 2.6, (0, 8): 4.8, (0, 16): 8.6,
    (2, 8): 12.6, (2, 16): 24.0,
    (3, 1): 1.2, (3, 2): 1.6, (3, 4): 2.6, (3, 8): 4.8,
    (4, 8): 10.0, (4, 16): 17.0,
    (6, 8): 16.8, (6, 16): 32.0,
}  # fmt: skip
_PNG_OTHER = 32.0
_PNG_BYTE = 6.3
_PNG_INTERLACED = 2.8
_PNG_DEPTH, _PNG_COLOR, _PNG_INTERLACE = 24, 25, 28  # where IHDR has them

# WebP by mode, as Pillow's decoder of animations reads it.
_WEBP_LOSSY: dict[str, Rate] = {"RGB": (10.0, 46.0), "RGBA": (14.0, 25.0)}
_WEBP_LOSSLESS: dict[str, Rate] = {"RGB": (14.0, 7.0), "RGBA": (15.5, 7.6)}
_GIF: Rate = (3.0, 4.8)
_AVIF: Rate = (15.0, 75.0)
_HEIC: Rate = (25.0, 130.0)
_DICOM: dict[str, Rate] = {"raw": (6.0, 1.0), "RLE": (15.0, 65.0), "JPEG": (6.0, 8.0), "JPEG 2000": (55.0, 110.0)}
_DICOM_COLOURS = 22.0  # a pixel: palettes and YBR
_OTHER = {"GIF": _GIF, "AVIF": _AVIF, "HEIF": _HEIC}
_BMP: Rate = (1.8, 0.1)
_BMP_RLE: Rate = (2.6, 120.0)

# TIFF by compression: nanoseconds a byte of the unpacked picture, nanoseconds a byte of the file.
_TIFF: dict[str, Rate] = {
    "raw": (0.5, 0.1),
    "packbits": (0.5, 0.3),
    "tiff_lzw": (0.6, 2.5),
    "tiff_adobe_deflate": (2.5, 6.5),
    "tiff_deflate": (2.5, 6.5),
    "jpeg": (1.2, 8.8),
    "zstd": (0.6, 1.5),
    "lzma": (4.4, 21.0),
    "group3": (4.0, 25.0),
    "group4": (4.0, 25.0),
}
_TIFF_OTHER: Rate = (5.0, 30.0)
_TIFF_PREDICTOR = 1.0  # a byte of the unpacked picture
_TIFF_SAMPLE: dict[int, float] = {1: 4.0, 8: 2.0, 16: 5.0}  # to 8 bits
_TIFF_OTHER_SAMPLE = 60.0
_TIFF_CONVERTED = {3: 16.0, 5: 4.0, 6: 4.0, 8: 30.0, 9: 30.0}  # a sample, by photometric interpretation
_TIFF_STRIP_NS = 20_000.0  # a strip or tile that Pillow reads by itself
_TIFF_CODED_STRIP_NS = 3_000.0  # one that libtiff unpacks

# From a mode to RGB or grey, a pixel.
_COLOURS: dict[str, float] = {"1": 1.2, "L": 1.0, "RGB": 1.0, "P": 2.2, "CMYK": 5.0, "YCbCr": 3.0, "I;16": 2.5}
_OTHER_COLOURS = 5.0
_TRANSPARENCY = {"RGBA": 9.2, "LA": 9.2}
_OTHER_TRANSPARENCY = 12.5
_TURNING = 2.4  # a pixel
_TAP = {"rgb": 1.6, "grey": 0.9}
_SUPPORT = {"nearest": 0.0, "area": 0.5, "bilinear": 1.0, "bicubic": 2.0}  # pixels, of Pillow's filters
_SIDE_NS = 10.0  # a pixel of a side: the filter's weights


def estimate_seconds(image: Image.Image, data: bytes, size: tuple[int, int], spec: InputSpec, *, turned: bool) -> float:
    """Return the CPU seconds that decoding and resizing an image take on the reference machine.

    Args:
        image: opened, not loaded; drafted to the scale at which it will be decoded.
        data: the file's bytes.
        size: (width, height) by the header, before any draft.
        spec: of the decoded image.
        turned: whether EXIF asks for another orientation.
    """
    num_pixels = image.width * image.height
    nanoseconds = _BASE_NS + _reading_ns(image, data, math.prod(size)) + num_pixels * _colours_ns(image, spec)
    nanoseconds += num_pixels * _TURNING * turned + resize_taps(image.size, spec) * _TAP[spec.color]
    return 1e-9 * (nanoseconds + _SIDE_NS * sum(image.size))


def resize_taps(size: tuple[int, int], spec: InputSpec) -> float:
    """Return how many weighted pixels resizing adds up, in the better order of its two passes."""
    width, height = size
    to_width, to_height = spec.width, spec.height
    if spec.fit == "pad":
        scale = min(to_width / width, to_height / height)
        to_width, to_height = max(1, round(width * scale)), max(1, round(height * scale))
    elif spec.fit == "crop":
        scale = min(width / to_width, height / to_height)
        width, height = max(1, math.ceil(to_width * scale)), max(1, math.ceil(to_height * scale))
    width, height = max(1, math.ceil(width * spec.crop_fraction)), max(1, math.ceil(height * spec.crop_fraction))
    support = _SUPPORT[spec.resize]
    across = 2 * support * max(1.0, width / to_width) + 1
    down = 2 * support * max(1.0, height / to_height) + 1
    across_first = height * to_width * across + to_height * to_width * down
    down_first = width * to_height * down + to_height * to_width * across
    return min(across_first, down_first) + to_width * to_height


def _colours_ns(image: Image.Image, spec: InputSpec) -> float:
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        return _TRANSPARENCY.get(image.mode, _OTHER_TRANSPARENCY)
    if image.mode == ("L" if spec.color == "grey" else "RGB"):
        return 0.0
    return _COLOURS.get(image.mode, _OTHER_COLOURS)


def _reading_ns(image: Image.Image, data: bytes, num_pixels: int) -> float:
    if isinstance(image, JpegFile):
        return _jpeg_ns(image, data, num_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff_ns(image, data, num_pixels)
    if isinstance(image, TiffPage):
        return _tiff_page_ns(image, data, num_pixels)
    if image.format == "PNG":
        per_pixel = _PNG.get((data[_PNG_COLOR], data[_PNG_DEPTH]), _PNG_OTHER)
        per_pixel += _PNG_INTERLACED * bool(data[_PNG_INTERLACE])
        return num_pixels * per_pixel + len(data) * _PNG_BYTE
    if image.format == "WEBP":
        rates = _WEBP_LOSSLESS if is_lossless(data) else _WEBP_LOSSY
        rate = rates.get(image.mode, rates["RGBA"])
    elif image.format in _OTHER:
        rate = _OTHER[image.format]
    elif isinstance(image, DicomImageFile):
        per_pixel, per_byte = _DICOM[image.coding]
        rate = (per_pixel + _DICOM_COLOURS * (image.mode == "RGB"), per_byte)
    else:
        rate = _BMP_RLE if any("rle" in tile[0] for tile in getattr(image, "tile", ())) else _BMP
    return num_pixels * rate[0] + len(data) * rate[1]


def _jpeg_ns(image: JpegFile, data: bytes, num_pixels: int) -> float:
    header = image.header
    if not header.is_common:
        return num_pixels * _JPEG_RARE[0] + len(data) * _JPEG_RARE[1]
    scale = max(1, round(math.sqrt(num_pixels / (image.width * image.height))))
    scales = _JPEG[image.layers]
    per_pixel = scales[max(known for known in scales if known <= scale)]
    # In compressed data 0xFF is always followed by 0 or a restart marker, so that this counts scans, and thumbnails'.
    num_scans = data.count(_SCAN_START) if header.in_several_scans else 1
    per_byte = _JPEG_BYTE_IN_SCANS if header.is_progressive else _JPEG_BYTE
    nanoseconds = num_pixels * (per_pixel + _JPEG_SCAN * max(0, num_scans - 1)) + len(data) * per_byte
    return num_loads(data, header) * nanoseconds


def _tiff_ns(image: TiffImagePlugin.TiffImageFile, data: bytes, num_pixels: int) -> float:
    tags = image.tag_v2
    codec = str(image.info.get("compression", "raw"))
    per_byte, per_file_byte = _TIFF.get(codec, _TIFF_OTHER)
    if tags.get(TiffImagePlugin.PREDICTOR, 1) != 1:
        per_byte += _TIFF_PREDICTOR
    num_bytes = num_pixels * pixel_bits(image) / 8
    if codec == "raw":
        strips_ns = len(image.tile) * _TIFF_STRIP_NS
    else:
        strips_ns = num_pixels / max(1, strip_pixels(image, num_pixels)) * _TIFF_CODED_STRIP_NS
    return num_bytes * per_byte + len(data) * per_file_byte + strips_ns


def _tiff_page_ns(image: TiffPage, data: bytes, num_pixels: int) -> float:
    layout = image.layout
    codec = TiffImagePlugin.COMPRESSION_INFO.get(layout.compression, "raw")
    per_byte, per_file_byte = _TIFF.get(codec, _TIFF_OTHER)
    num_samples = num_pixels * layout.samples
    per_sample = 0.0
    if not layout.as_page:
        per_sample = _TIFF_SAMPLE.get(layout.bits, _TIFF_OTHER_SAMPLE) + _TIFF_PREDICTOR * (layout.predictor != 1)
        per_sample += _TIFF_CONVERTED.get(layout.photometric, 0.0)
    num_strips = layout.across * layout.down * layout.planes
    num_bytes = num_samples * layout.bits / 8
    return num_bytes * per_byte + len(data) * per_file_byte + num_samples * per_sample + num_strips * _TIFF_STRIP_NS
