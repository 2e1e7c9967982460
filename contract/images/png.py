"""Opens a PNG from the chunks that make pixels; all others are passed over, whatever they hold."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image, PngImagePlugin

from contract.errors import UndecodableImageError, UnsupportedImageError
from contract.images.exif import EXIF_START, read_orientation
from contract.images.image_file import ImageFile, Opened, count_parts, join_parts, load_pixels
from contract.images.significant_bits import scale_significant

START = b"\x89PNG\r\n\x1a\n"
_NAME = re.compile(rb"[A-Za-z0-9_]{4}")
_PIXELS = frozenset({b"IHDR", b"tRNS", b"IDAT", b"IEND"})
_PALETTE_TYPE, _COLOR_TYPE = 3, 25  # a colour type, and where IHDR has it
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_EXIF_TEXT, _XMP_TEXT = b"Raw profile type exif", b"XML:com.adobe.xmp"
_MAX_TEXT_BYTES = 1 << 20
_CHUNK_BYTES = 12  # beside the contents


@dataclass(slots=True)
class _Notes:
    """Facts in the chunks of a PNG, beside its pixels."""

    exif: bytes = b""
    # By key, of the last chunk: name and contents.
    texts: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    significant_bits: bytes = b""
    num_frames: int = 1
    is_first_frame: bool = False

    def text(self, key: bytes) -> bytes:
        """Return the text of a key, inflated; empty if there is none."""
        return _read_text(*self.texts[key]) if key in self.texts else b""


def open_png(data: bytes, decoder: int) -> Opened:
    """Read a PNG's header; from decoder version 2 on, its significant bits count.

    Raises:
        UnsupportedImageError: if it is of a kind that is not read.
        UndecodableImageError: if there is no picture in it.
    """
    ranges, notes = _walk(data)
    try:
        image = PngImagePlugin.PngImageFile(ImageFile(join_parts(data, ranges)))
    except SyntaxError as err:
        raise UndecodableImageError("the PNG image cannot be decoded: its header is corrupt") from err
    exif = notes.exif or _unpack_profile(notes.text(_EXIF_TEXT))
    orientation = read_orientation(exif, notes.text(_XMP_TEXT))

    def load() -> Image.Image:
        load_pixels(image)
        if decoder == 1 or not notes.significant_bits:
            return image
        depth, color_type = data[_COLOR_TYPE - 1], data[_COLOR_TYPE]
        reopen = _reopening(join_parts(data, ranges))
        return scale_significant(image, notes.significant_bits, color_type=color_type, depth=depth, reopen=reopen)

    return Opened("PNG", image, orientation, lambda: notes.num_frames, load)


def _reopening(data: bytes) -> Callable[[str], Image.Image]:
    """Return a function that decodes a PNG's pixels by another of Pillow's raw modes."""

    def reopen(raw_mode: str) -> Image.Image:
        image = PngImagePlugin.PngImageFile(ImageFile(data))
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        return load_pixels(image)

    return reopen


def _walk(data: bytes) -> tuple[list[tuple[int, int]], _Notes]:
    """Return where the chunks are that make pixels, and what the others say."""
    ranges, notes, place = [(0, len(START))], _Notes(), len(START)
    has_palette = data[_COLOR_TYPE : _COLOR_TYPE + 1] == bytes([_PALETTE_TYPE])
    for _ in count_parts(data):
        if place + 8 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + length + _CHUNK_BYTES
        if name == b"CgBI":
            raise UnsupportedImageError(
                "expected a PNG as the standard defines it. Received: one for Apple's devices (CgBI); "
                "convert it with pngcrush -revert-iphone-optimizations"
            )
        if _NAME.fullmatch(name) is None:
            break
        if name in _PIXELS or (name == b"PLTE" and has_palette):
            ranges.append((place, end))
            if name == b"IDAT" and not notes.is_first_frame and notes.num_frames > 1:
                notes.num_frames, notes.is_first_frame = notes.num_frames + 1, True
            if name == b"IEND":
                break
        elif end > len(data):
            break
        else:
            _note(notes, name, data[place + 8 : end - 4] if name in _NOTED else b"", data, place, end)
        place = end
    return ranges, notes


_NOTED = _TEXTS | {b"eXIf", b"acTL", b"sBIT"}


def _note(notes: _Notes, name: bytes, body: bytes, data: bytes, place: int, end: int) -> None:
    if name == b"fcTL":
        notes.is_first_frame = True
        return
    if name not in _NOTED or zlib.crc32(data[place + 4 : end - 4]).to_bytes(4) != data[end - 4 : end]:
        return
    if name == b"eXIf":
        notes.exif = body
    elif name == b"sBIT":
        notes.significant_bits = body
    elif name == b"acTL":
        notes.num_frames = max(1, min(int.from_bytes(body[:4]), len(data) // _CHUNK_BYTES))
    else:
        key, _, rest = body.partition(b"\0")
        if key in (_EXIF_TEXT, _XMP_TEXT):
            notes.texts[key] = name, rest  # inflated after the walk: each of very many may be long


def _read_text(name: bytes, rest: bytes) -> bytes:
    """Return a text without its heading, inflated; empty if that fails or is too long."""
    if name == b"zTXt":
        return _inflate(rest[1:])
    if name == b"iTXt":
        packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        return _inflate(text) if packed else text
    return rest


def _inflate(data: bytes) -> bytes:
    inflating = zlib.decompressobj()
    try:
        text = inflating.decompress(data, _MAX_TEXT_BYTES)
    except zlib.error:
        return b""
    return b"" if inflating.unconsumed_tail else text


def _unpack_profile(text: bytes) -> bytes:
    """Return the EXIF data that ImageMagick writes as hexadecimal text."""
    try:
        body = b"".join(text.split(b"\n", 3)[3:]).replace(b"\n", b"")
        return bytes.fromhex(body.decode("ascii")).removeprefix(EXIF_START)
    except ValueError:
        return b""
