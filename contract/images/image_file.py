"""Bounds the work that Pillow does for the parts of an image file beside its pixels: segments, chunks, blocks, tags."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image

from contract.errors import UndecodableImageError

_HEADER_READS = 4096  # Pillow reads each part of a header by itself
_BYTES_A_READ = 256  # of the file, at least, on average while pixels are read
_MAX_COPIES = 8  # how often each byte of a file may be read
_SPARE_BYTES = 1 << 20
_MAX_EXIF_PARTS = 64  # of a JPEG; Pillow joins them one by one
_FEW_BYTES = 1 << 16  # of a JPEG: Pillow takes 20 ms for as many segments as these can hold, and reads each once
_JPEG_START = b"\xff\xd8"
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_EXIF_START = b"Exif\0\0"
_EXIF_TEXT = "Raw profile type exif"  # a PNG's comment in which ImageMagick writes EXIF data as hexadecimal text
_ENTRY_BYTES = 12


def open_bytes(data: bytes) -> io.BytesIO:
    """Return an image file; its reads are counted unless it is a small JPEG.

    Raises:
        UndecodableImageError: as `ImageFile`.
    """
    if len(data) <= _FEW_BYTES and data.startswith(_JPEG_START):
        return io.BytesIO(data)
    return ImageFile(data)


class ImageFile(io.BytesIO):
    """An image file's bytes, which can be read only so often.

    Raises:
        UndecodableImageError: from `read`, or at once if a JPEG has very many EXIF segments.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._num_bytes = len(data)
        self._reads_left = _HEADER_READS
        self._bytes_left = _MAX_COPIES * len(data) + _SPARE_BYTES
        if len(data) > _SPARE_BYTES and data.count(_EXIF_START) > _MAX_EXIF_PARTS:
            raise UndecodableImageError(f"the image cannot be decoded: over {_MAX_EXIF_PARTS} EXIF segments")

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        data = super().read(size)
        self._reads_left -= 1
        self._bytes_left -= len(data)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise UndecodableImageError("the image cannot be decoded: its file consists of too many small parts")
        return data

    def allow_pixels(self) -> None:
        """Allow the reads that the pixels of a file of this size need."""
        self._reads_left += self._num_bytes // _BYTES_A_READ


def allow_reads(image: Image.Image) -> None:
    """Let Pillow read an image's pixels, after its header."""
    file: Any = getattr(image, "fp", None)
    if isinstance(file, ImageFile):
        file.allow_pixels()


def check_exif(image: Image.Image) -> None:
    """Refuse EXIF data whose tags refer to many times their bytes: Pillow copies what each tag refers to.

    Raises:
        UndecodableImageError: if they do.
    """
    data = _exif_of(image)
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        return
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return
    (num_tags,) = struct.unpack_from(order + "H", data, start)
    num_bytes = 0
    for i in range(min(num_tags, (len(data) - start - 2) // _ENTRY_BYTES)):
        kind, count = struct.unpack_from(order + "HI", data, start + 2 + i * _ENTRY_BYTES + 2)
        size = _TYPE_BYTES.get(kind, 1) * count
        num_bytes += size if size <= len(data) else 0  # Pillow reads nothing of a tag that goes beyond the end
    if num_bytes > _MAX_COPIES * len(data):
        raise UndecodableImageError("the image cannot be decoded: its EXIF tags overlap")


def _exif_of(image: Image.Image) -> bytes:
    """Return an image's EXIF data as Pillow finds them; empty if there are none."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif.removeprefix(_EXIF_START)
    text = image.info.get(_EXIF_TEXT)
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])).removeprefix(_EXIF_START)
    except ValueError:
        return b""
