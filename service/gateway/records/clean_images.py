"""Removes metadata from image files: person, place, time, camera, thumbnails.

JPEG and PNG lose the segments and chunks that do not make pixels, and anything behind the image's end; their compressed
data stays byte for byte. Other formats are decoded and kept as PNG, since their structure would only be guessed at.
Either way the result is decoded and compared: a model that trains on it sees the pixels that the original gave. What is
written inside the picture, a name in a corner, stays.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from contract.errors import ContractError, ImageError, ImageTooLargeError, UndecodableImageError
from contract.heatmap import encode_png
from contract.image import decode_image, read_header
from contract.model import InputSpec

_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"sBIT", b"tRNS", b"IDAT", b"IEND"})
_APP0, _APP1, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_SCAN, _END, _RESTARTS = 0xDA, 0xD9, range(0xD0, 0xD8)
# That there is a JFIF segment tells the decoder how colours are coded; its thumbnail is left out.
_JFIF = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"


@dataclass(frozen=True, slots=True)
class CleanImage:
    """An image file that is only a picture.

    Attributes:
        data: the file's bytes.
        suffix: ".jpg" or ".png".
    """

    data: bytes
    suffix: str


def clean_image(data: bytes, spec: InputSpec, *, max_pixels: int) -> CleanImage:
    """Take everything but the picture out of an image file.

    Args:
        data: the file's bytes.
        spec: as which input the picture has to stay the same.
        max_pixels: refuse images whose header declares more.

    Raises:
        ImageError: if the image cannot be decoded, or is too large to be kept.
    """
    pixels = decode_image(data, spec, max_pixels=max_pixels)
    for start, strip, suffix in ((_JPEG_START, _strip_jpeg, ".jpg"), (_PNG_START, _strip_png, ".png")):
        if data.startswith(start):
            stripped = strip(data, read_header(data, max_pixels=max_pixels, decoder=spec.decoder).orientation)
            if stripped is not None and _shows(stripped, spec, pixels=pixels, max_pixels=max_pixels):
                return CleanImage(stripped, suffix)
    # A JPEG that has to become a PNG loses the short cut of a reduced decode: all its pixels are compared instead.
    spec = replace(spec, reduced_decode=False)
    pixels = decode_image(data, spec, max_pixels=max_pixels)
    anew = _encode_anew(data, spec, max_pixels=max_pixels)
    if not _shows(anew, spec, pixels=pixels, max_pixels=max_pixels):
        raise UndecodableImageError("the image cannot be kept: written anew, it would not be the same picture")
    return CleanImage(anew, ".png")


def _shows(data: bytes, spec: InputSpec, *, pixels: np.ndarray, max_pixels: int) -> bool:
    try:
        return np.array_equal(decode_image(data, spec, max_pixels=max_pixels), pixels)
    except ImageError:
        return False


def _encode_anew(data: bytes, spec: InputSpec, *, max_pixels: int) -> bytes:
    """Return a PNG of the whole picture, upright, in the input's colour; resized, it gives the original's pixels."""
    header = read_header(data, max_pixels=max_pixels, decoder=spec.decoder)
    width, height = header.width, header.height
    upright = header.format == "TIFF" and spec.decoder == 1  # the size that Pillow tells
    if header.orientation in _SIDEWAYS and not upright:
        width, height = height, width
    try:
        whole = replace(spec, height=height, width=width, resize="nearest", fit="stretch", crop_fraction=1.0)
    except ContractError as err:
        raise ImageTooLargeError(
            f"expected a {header.format} image of at most 8192 x 8192. Received: {width} x {height}"
        ) from err
    pixels = decode_image(data, whole, max_pixels=max_pixels)
    return encode_png(pixels if spec.channels == 3 else pixels[:, :, 0])


def _strip_jpeg(data: bytes, orientation: int) -> bytes | None:
    """Return a JPEG without application data and comments; None if its structure is not understood."""
    parts = [_JPEG_START]
    if orientation != 1:
        parts.append(_segment(_APP1, b"Exif\0\0" + _orientation_exif(orientation)))
    for marker, body in _jpeg_segments(data):
        if marker == _END:
            return b"".join([*parts, b"\xff\xd9"])
        if marker == _APP0 and body[4:9] == b"JFIF\0":
            parts.append(_segment(_APP0, _JFIF))
        elif not (_APP0 <= marker <= _APP15 or marker == _COM) or (marker == _APP14 and body[4:9] == b"Adobe"):
            parts.append(body)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give every segment whole, a scan with its compressed data, up to the end of the image."""
    position = len(_JPEG_START)
    while position + 4 <= len(data) or data[position : position + 2] == b"\xff\xd9":
        if data[position] != 0xFF:
            return
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == _END:
            yield marker, b"\xff\xd9"
            return
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if end > len(data):
            return
        if marker == _SCAN:
            end = _end_of_scan(data, end)
            if end == len(data):  # the decoder reads a JPEG that lacks its end marker, or half of it
                yield marker, data[position:].removesuffix(b"\xff")
                yield _END, b"\xff\xd9"
                return
        yield marker, data[position:end]
        position = end


def _end_of_scan(data: bytes, position: int) -> int:
    """Return where the next marker is that is neither a restart nor a stuffed 0xFF."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            return len(data)
        if data[position + 1] != 0 and data[position + 1] not in _RESTARTS:
            return position
        position += 2


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _strip_png(data: bytes, orientation: int) -> bytes | None:
    """Return a PNG with nothing but its picture; None if its structure is not understood."""
    parts, position = [_PNG_START], len(_PNG_START)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if end > len(data):
            return None
        if kind == b"IDAT" and orientation != 1 and not any(part[4:8] == b"eXIf" for part in parts):
            parts.append(_chunk(b"eXIf", _orientation_exif(orientation)))
        if kind in _PNG_KEPT:
            parts.append(data[position:end])
        if kind == b"IEND":
            return b"".join(parts)
        position = end
    return None


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _orientation_exif(orientation: int) -> bytes:
    """Return EXIF data that holds the orientation and nothing else."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
