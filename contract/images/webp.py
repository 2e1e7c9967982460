"""A WebP image's pixels, by the library that Pillow has loaded, without Pillow's decoder of animations.

Pillow reads every WebP image as an animation: two canvases, a copy, and the image, 16 to 20 bytes a pixel. The same
library also decodes one picture into memory of the caller's: the same pixels to the bit, at most 8 bytes a pixel.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import struct
from typing import Any

from PIL import Image

_HEAD_BYTES = 12  # "RIFF", size, "WEBP"
_FRAME_HEAD_BYTES = 16  # of an animation's frame: place, size, duration, flags
_MAX_CHUNKS = 4096  # before the picture
_SIZE_FUNCTION = "WebPGetInfo"
_FLAGS, _ANIMATION = 20, 0x02  # where VP8X has its flags, and one of them

_Info = dict[str | tuple[int, int], Any]


@functools.cache
def find_library() -> ctypes.CDLL | None:
    """Return the libwebp that Pillow is linked with, wherever it comes from; None if its functions are hidden."""
    try:
        library = ctypes.CDLL(importlib.import_module("PIL._webp").__file__)
        size_function = getattr(library, _SIZE_FUNCTION)
        size_function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
        for name in ("WebPDecodeRGBInto", "WebPDecodeRGBAInto"):
            function = getattr(library, name)
            function.restype = ctypes.c_void_p
            function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (AttributeError, ImportError, OSError):
        return None
    return library


def decode_webp(
    data: bytes, *, mode: str, size: tuple[int, int], info: dict[str | tuple[int, int], Any]
) -> Image.Image:
    """Decode the picture, or an animation's first frame on its canvas.

    Args:
        data: the file's bytes, of which Pillow has read the header.
        mode: "RGB" or "RGBA", as Pillow says.
        size: (width, height) of the canvas, pixels, as Pillow says.
        info: what else Pillow has read, such as EXIF data.

    Raises:
        ValueError: if the contents are truncated or corrupt.
    """
    image = _decode_canvas(data, mode, size)
    image.info = info
    return image


def _decode_canvas(data: bytes, mode: str, size: tuple[int, int]) -> Image.Image:
    left, top, start, end = _find_picture(data)
    # A frame's head also says a size, which Pillow's decoder does not believe either.
    width, height = _picture_size(data, start, end)
    if left + width > size[0] or top + height > size[1]:
        raise ValueError("the picture is not within its canvas")
    picture = _decode(data, start, end, mode, (width, height))
    if picture.size == size:
        return picture
    canvas = Image.new(mode, size)  # zeros: transparent black
    canvas.paste(picture, (left, top))
    return canvas


def _decode(data: bytes, start: int, end: int, mode: str, size: tuple[int, int]) -> Image.Image:
    row_bytes = size[0] * len(mode)
    pixels = bytearray(row_bytes * size[1])
    place = (ctypes.c_char * len(pixels)).from_buffer(pixels)
    function = getattr(find_library(), f"WebPDecode{mode}Into")
    if not function(_address(data) + start, end - start, ctypes.addressof(place), len(pixels), row_bytes):
        raise ValueError("libwebp cannot decode it")
    return Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1)


def _picture_size(data: bytes, start: int, end: int) -> tuple[int, int]:
    width, height = ctypes.c_int(), ctypes.c_int()
    function = getattr(find_library(), _SIZE_FUNCTION)
    if not function(_address(data) + start, end - start, ctypes.byref(width), ctypes.byref(height)):
        raise ValueError("libwebp finds no picture in it")
    return width.value, height.value


def _address(data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def is_lossless(data: bytes) -> bool:
    """Return whether the picture, or an animation's first frame, is coded without loss."""
    try:
        *_, start, _ = _find_picture(data)
    except ValueError:
        return False
    return data[start : start + 4] == b"VP8L"


def _find_picture(data: bytes) -> tuple[int, int, int, int]:
    """Return a picture's left and upper edge on its canvas, and where its chunks begin and end in the file."""
    left = top = 0
    start, first = _HEAD_BYTES, None
    is_animation = data[start : start + 4] == b"VP8X" and bool(data[_FLAGS] & _ANIMATION)
    for _ in range(_MAX_CHUNKS):
        if start + 8 > len(data):
            break
        name, num_bytes = struct.unpack_from("<4sI", data, start)
        end = start + 8 + num_bytes + num_bytes % 2
        if name == b"ANMF" and is_animation:
            left, top = (2 * int.from_bytes(data[start + i : start + i + 3], "little") for i in (8, 11))
            is_animation, end = False, start + 8 + _FRAME_HEAD_BYTES  # what follows is like a still picture
        elif name == b"ALPH" and not is_animation and first is None:
            first = start
        elif name in (b"VP8 ", b"VP8L") and not is_animation:
            return left, top, start if first is None else first, min(end, len(data))
        start = end
    raise ValueError("there is no picture in it")
