"""Opens a WebP image from the chunks that make its picture; profile, EXIF, XMP and others are passed over.

Pillow reads every WebP image as an animation: two canvases, a copy, and the image, 20 bytes a pixel.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import partial

from PIL import WebPImagePlugin

from contract.errors import UndecodableImageError
from contract.images.exif import read_orientation
from contract.images.image_file import Opened, count_parts, load_pixels

_HEAD_BYTES = 12  # "RIFF", size, "WEBP"
_FRAME_HEAD_BYTES = 16  # of an animation's frame: place, size, duration, flags
_EXTENDED = b"VP8X"
_PICTURES = (b"VP8 ", b"VP8L")
_FLAGS = 8  # where a chunk VP8X has its flags
_ANIMATION, _XMP, _EXIF, _ALPHA = 0x02, 0x04, 0x08, 0x10


def starts_webp(data: bytes) -> bool:
    """Return whether a file starts as a WebP image does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def open_webp(data: bytes) -> Opened:
    """Read a WebP image's header.

    Raises:
        UndecodableImageError: if there is no picture in it.
    """
    chunks = _read_chunks(data)
    picture = list(_picture_chunks(data, chunks))
    head = struct.pack("<4sI4s", b"RIFF", sum(map(len, picture)) + 4, b"WEBP")
    try:
        image = WebPImagePlugin.WebPImageFile(io.BytesIO(b"".join([head, *picture])))
    except (SyntaxError, OSError, ValueError) as err:
        raise UndecodableImageError("the WEBP image cannot be decoded: its header is corrupt") from err
    exif, xmp = (_find_note(data, chunks, name, flag) for name, flag in ((b"EXIF", _EXIF), (b"XMP ", _XMP)))

    num_frames = max(1, sum(name == b"ANMF" for name, _, _ in chunks))
    return Opened("WEBP", image, read_orientation(exif, xmp), lambda: num_frames, partial(load_pixels, image))


def is_lossless(data: bytes) -> bool:
    """Return whether the picture, or an animation's first frame, is coded without loss."""
    for name, start, end in _chunks(data):
        if name == b"ANMF":
            inner = start + 8 + _FRAME_HEAD_BYTES
            return any(frame == b"VP8L" for frame, _, _ in _chunks(data[:end], inner))
        if name in _PICTURES:
            return name == b"VP8L"
    return False


def _read_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    (num_bytes,) = struct.unpack_from("<I", data.ljust(8, b"\0"), 4)
    return list(_chunks(data[: num_bytes + 8] if num_bytes + 8 < len(data) else data))


def _chunks(data: bytes, start: int = _HEAD_BYTES) -> Iterator[tuple[bytes, int, int]]:
    """Give each chunk's name, its start and its end, with padding, which may be beyond the file's."""
    for _ in count_parts(data):
        if start + 8 > len(data):
            return
        name, num_bytes = struct.unpack_from("<4sI", data, start)
        end = start + 8 + num_bytes + num_bytes % 2
        yield name, start, end
        start = end


def _picture_chunks(data: bytes, chunks: list[tuple[bytes, int, int]]) -> Iterator[bytes]:
    """Give the chunks that make the picture, or an animation's first frame."""
    if not chunks or chunks[0][0] != _EXTENDED:
        yield from (_whole(data, start, end) for _, start, end in chunks[:1])
        return
    _, start, end = chunks[0]
    flags = data[start + _FLAGS] if start + _FLAGS < len(data) else 0
    yield data[start : start + _FLAGS] + bytes([flags & (_ANIMATION | _ALPHA)]) + data[start + _FLAGS + 1 : end]
    wanted = (b"ANIM", b"ANMF") if flags & _ANIMATION else (b"ALPH", *_PICTURES)
    for name, start, end in chunks[1:]:
        if name in wanted:
            yield _whole(data, start, end)
        if name == b"ANMF" or name in _PICTURES:
            return


def _whole(data: bytes, start: int, end: int) -> bytes:
    """Return a chunk, with the padding that the last one of a file may lack."""
    return data[start:end] + b"\0" * (end == len(data) + 1)


def _find_note(data: bytes, chunks: list[tuple[bytes, int, int]], wanted: bytes, flag: int) -> bytes:
    """Return the contents of a chunk that the header announces; empty if it does not, or they are not whole."""
    if not chunks or chunks[0][0] != _EXTENDED or not data[_HEAD_BYTES + _FLAGS] & flag:
        return b""
    start, end = next(((start, end) for name, start, end in chunks if name == wanted), (0, 0))
    return data[start + 8 : end] if end <= len(data) else b""
