"""Opens a GIF's first frame; comments and other extensions before it are passed over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from PIL import GifImagePlugin

from contract.errors import UndecodableImageError
from contract.images.image_file import ImageFile, Opened, count_parts, join_parts, load_pixels

STARTS = (b"GIF87a", b"GIF89a")
_HEAD_BYTES, _FLAGS = 13, 10
_EXTENSION, _IMAGE, _END, _GRAPHIC_CONTROL = 0x21, 0x2C, 0x3B, 0xF9
_IMAGE_HEAD_BYTES, _IMAGE_FLAGS = 10, 9


def open_gif(data: bytes) -> Opened:
    """Read a GIF's header.

    Raises:
        UndecodableImageError: if there is no picture in it.
    """
    ranges = _first_frame(data)
    try:
        image = GifImagePlugin.GifImageFile(ImageFile(join_parts(data, ranges)))
    except (SyntaxError, OSError) as err:
        raise UndecodableImageError("the GIF image cannot be decoded: its header is corrupt") from err

    return Opened("GIF", image, 1, lambda: _count_frames(data), partial(load_pixels, image))


def _first_frame(data: bytes) -> list[tuple[int, int]]:
    """Return where the parts are that make the first frame's pixels."""
    ranges = [(0, _palette_end(data, _FLAGS, _HEAD_BYTES))]
    for kind, place, end in _blocks(data):
        if kind == _IMAGE:
            ranges.append((place, len(data)))
            break
        if data[place + 1 : place + 2] == bytes([_GRAPHIC_CONTROL]):
            ranges.append((place, end))
    return ranges


def _count_frames(data: bytes) -> int:
    try:
        return max(1, sum(kind == _IMAGE for kind, _, _ in _blocks(data)))
    except UndecodableImageError:
        return 1


def _blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Give each extension and image: its first byte, its place and its end."""
    place, parts = _palette_end(data, _FLAGS, _HEAD_BYTES), count_parts(data)
    while place < len(data):
        kind = data[place]
        if kind == _EXTENSION:
            start = place + 2
        elif kind == _IMAGE:
            if place + _IMAGE_HEAD_BYTES > len(data):
                return
            start = _palette_end(data, place + _IMAGE_FLAGS, place + _IMAGE_HEAD_BYTES) + 1
            yield kind, place, start
        elif kind == _END:
            return
        else:  # bytes that no decoder minds
            next(parts)
            place += 1
            continue
        while start < len(data) and data[start]:
            next(parts)
            start += data[start] + 1
        next(parts)
        if kind == _EXTENSION:
            yield kind, place, start + 1
        place = start + 1


def _palette_end(data: bytes, flags: int, start: int) -> int:
    """Return where a palette ends that starts at a place if flags say that there is one."""
    if flags >= len(data) or not data[flags] & 0x80:
        return start
    return start + (3 << ((data[flags] & 7) + 1))
