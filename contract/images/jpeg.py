"""Opens a JPEG from one walk over its markers, and decodes one that lacks only its end marker.

Pillow's own reader copies every application segment and reads the index of a camera's further pictures (MPF). Here
segments that make no pixels are passed over; libjpeg passes over them too.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageFile, JpegImagePlugin

from contract.errors import UndecodableImageError, UnsupportedImageError
from contract.images.exif import EXIF_START, entries, find_tag, read_orientation
from contract.images.image_file import Opened, count_parts

START, END = b"\xff\xd8", b"\xff\xd9"
_SCAN, _RESTART_INTERVAL, _JPEG_LS = 0xDA, 0xDD, 0xF7
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_RARE_FRAMES = {0xC3: "a lossless JPEG", 0xC9: "a JPEG with arithmetic coding", 0xCA: "a JPEG with arithmetic coding"}
_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}  # Pillow's mode, and the decoder's
_APP1, _APP2 = 0xE1, 0xE2
# Application segments and comments, but for those of JFIF and Adobe, which tell of colours.
_NOTES = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
_XMP_START, _MPF_START = b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0"
_GAIN_MAP = b' hdrgm:Version="'  # of an Ultra HDR picture, whose second picture is no frame
_NUM_IMAGES, _IMAGES, _IMAGE_BYTES = 0xB001, 0xB002, 16
_MAX_SEGMENTS = 4096  # before the first scan
_MAX_EXIF_PARTS = 64
# Only the last 0xFF before a marker: more of them are padding, however many there are.
_NEXT_MARKER = re.compile(rb"\xff([^\x00\xff])")
_NEXT_PART = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_NO_PADDING = re.compile(rb"[^\xff]")
_LONG_FILE, _LONG_RUN = 1 << 20, b"\xff" * (1 << 17)
_RESTARTS = tuple(bytes((0xFF, marker)) for marker in range(0xD0, 0xD8))
_NUM_COEFFICIENTS = 64
# Bits behind the last byte of a file that lacks its end marker. If they decide no pixel, no pixel is missing.
_FILLERS = (b"\xff\0" * 16, b"\0" * 16, b"\x55" * 16, b"\xaa" * 16)
_ROWS = 64
_WAY_ROUND = "save it as a baseline JPEG of 8 bits, or as PNG"


@dataclass(slots=True)
class JpegHeader:
    """A JPEG's header up to its first scan.

    Attributes:
        frame: marker of the start of frame, such as 0xC0.
        size: (width, height).
        layers: of each component: its id, and how often it is sampled across and down.
        scan: place of the first scan's marker.
        scan_layers: components in the first scan.
        exif: parts of the EXIF data.
        xmp: XMP data.
        index: index of further pictures (MPF).
    """

    frame: int = 0
    size: tuple[int, int] = (0, 0)
    layers: list[tuple[int, int, int]] = field(default_factory=list)
    scan: int = 0
    scan_layers: int = 0
    exif: list[bytes] = field(default_factory=list)
    xmp: bytes = b""
    index: bytes = b""

    @property
    def is_progressive(self) -> bool:
        """True if its scans refine each other."""
        return self.frame in _PROGRESSIVE

    @property
    def in_several_scans(self) -> bool:
        """True if libjpeg keeps all coefficients: of progressive files, and of components in scans of their own."""
        return self.is_progressive or self.scan_layers != len(self.layers)

    @property
    def is_common(self) -> bool:
        """True if it is baseline, extended or progressive, with Huffman codes."""
        return self.frame in _HUFFMAN_FRAMES

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8."""
        return read_orientation(b"".join(self.exif), self.xmp) if self.exif or self.xmp else 1

    @property
    def num_frames(self) -> int:
        """Pictures that the index of a camera's file lists; 1 without one."""
        if not self.index or _GAIN_MAP in self.xmp:
            return 1
        count = find_tag(self.index, _NUM_IMAGES) or 1
        return count if count > 1 and _lists(self.index, count) else 1


class JpegFile(JpegImagePlugin.JpegImageFile):
    """Pillow's JPEG image, opened from a header that has been read.

    Args:
        data: the file's bytes.
        header: of them.
        tail: what follows them.
    """

    format = "JPEG"

    def __init__(self, data: bytes, header: JpegHeader, tail: bytes = b"") -> None:
        self.header = header
        self._tail = tail
        super().__init__(io.BytesIO(_shorten_padding(data)))

    def _open(self) -> None:
        header = self.header
        self.bits, self.layers, self._exif_offset = 8, len(header.layers), 0
        self.layer = [(name, across, down, 0) for name, across, down in header.layers]
        self.quantization, self.app, self.applist, self.icclist = {}, {}, [], []
        self._mode, raw_mode = _MODES[self.layers]
        self._size = header.size
        if header.is_progressive:
            self.info["progressive"] = 1
        self.tile = [ImageFile._Tile("jpeg", (0, 0, *header.size), 0, (raw_mode, ""))]

    def load_read(self, read_bytes: int) -> bytes:
        """Return the next bytes, the tail after the last."""
        data = self.fp.read(read_bytes) if self.fp is not None else b""
        if not data:
            data, self._tail = self._tail, b""
        return data


def open_jpeg(data: bytes) -> Opened:
    """Read a JPEG's header.

    Raises:
        UnsupportedImageError: if it is of a kind that is not read.
        UndecodableImageError: if there is no picture in it.
    """
    header = read_jpeg_header(data)
    image = JpegFile(data, header)
    return Opened("JPEG", image, header.orientation, lambda: header.num_frames, lambda: _load(image, data))


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Walk over a JPEG's markers up to its first scan.

    Raises:
        UnsupportedImageError: if it is of a kind that is not read.
        UndecodableImageError: if there is no picture in it.
    """
    header = JpegHeader()
    for marker, place, end in _segments(data):
        if marker in _FRAMES:
            _read_frame(header, marker, data[place + 4 : end])
        elif marker in (_APP1, _APP2):
            _read_application(header, marker, data[place + 4 : end])
        elif marker == _SCAN:
            header.scan, header.scan_layers = place, data[place + 4]
            if not header.frame:
                break
            return header
        elif marker == _JPEG_LS:
            raise _unsupported("a JPEG-LS image")
    raise UndecodableImageError("the JPEG image cannot be decoded: it is truncated before its first scan")


def has_end(data: bytes, header: JpegHeader) -> bool:
    """Return whether a JPEG's end marker is there."""
    return data.endswith(END) or data.find(END, header.scan) >= 0


def num_loads(data: bytes, header: JpegHeader) -> int:
    """Return how often a JPEG is decoded: several times if it lacks its end marker."""
    return 1 if has_end(data, header) else 1 + len(_FILLERS)


def without_notes(data: bytes, header: JpegHeader) -> bytes:
    """Return a JPEG without the padding, and the notes of programs, that precede its first scan and make no pixels."""
    kept = [data[place:end] for marker, place, end in _segments(data[: header.scan + 5])
            if place < header.scan and marker not in _NOTES]  # fmt: skip
    return b"".join([START, *kept, data[header.scan :]])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Give each marker that has a length, its place and its end, as libjpeg finds them."""
    place = 2
    for _ in range(_MAX_SEGMENTS):
        if data[place : place + 1] != b"\xff" or data[place + 1 : place + 2] in (b"\xff", b"\0"):
            match = _NEXT_MARKER.search(data, place)  # over padding, and bytes that no decoder minds
            if match is None:
                return
            place = match.start(1) - 1
        if place + 4 >= len(data):
            return
        marker = data[place + 1]
        if marker == 1 or 0xD0 <= marker <= 0xD8:  # markers without a length
            place += 2
            continue
        end = place + 2 + max(2, (data[place + 2] << 8) + data[place + 3])
        if end > len(data):
            return
        yield marker, place, end
        place = end
    raise UndecodableImageError("the JPEG image cannot be decoded: its file consists of too many small parts")


def _read_frame(header: JpegHeader, marker: int, body: bytes) -> None:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise UndecodableImageError("the JPEG image cannot be decoded: its frame header is corrupt")
    bits, height, width, layers = body[0], (body[1] << 8) + body[2], (body[3] << 8) + body[4], body[5]
    name = _RARE_FRAMES.get(marker, "a JPEG")
    if marker not in _HUFFMAN_FRAMES and marker not in _RARE_FRAMES:
        raise _unsupported(f"a hierarchical JPEG or one of a rare coding (SOF{marker & 15})")
    if bits != 8:
        raise _unsupported(f"{name} of {bits} bits a sample")
    if layers not in _MODES:
        raise _unsupported(f"{name} of {layers} components")
    if height == 0 and width:
        raise _unsupported(f"{name} whose height follows its first scan (DNL)")
    if width == 0:
        raise UndecodableImageError("the JPEG image cannot be decoded: its width is 0")
    header.frame, header.size = marker, (width, height)
    header.layers = [(body[i], body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, 6 + 3 * layers, 3)]


def _read_application(header: JpegHeader, marker: int, body: bytes) -> None:
    if marker == _APP1 and body.startswith(EXIF_START):
        if len(header.exif) < _MAX_EXIF_PARTS:
            header.exif.append(body[len(EXIF_START) :])
    elif marker == _APP1 and body.startswith(_XMP_START):
        header.xmp = body
    elif marker == _APP2 and body.startswith(_MPF_START):
        header.index = body[len(_MPF_START) :]


def _lists(index: bytes, count: int) -> bool:
    """Return whether an index of pictures has an entry for each."""
    for place, order in entries(index):
        tag, _, num_bytes, start = struct.unpack_from(order + "HHII", index, place)
        if tag == _IMAGES:
            return bool(_IMAGE_BYTES * count <= num_bytes and start + num_bytes <= len(index))
    return False


def _unsupported(what: str) -> UnsupportedImageError:
    return UnsupportedImageError(f"expected a baseline or progressive JPEG of 8 bits. Received: {what}; {_WAY_ROUND}")


def _shorten_padding(data: bytes) -> bytes:
    """Return a JPEG with shorter runs of 0xFF: with each block that Pillow reads, libjpeg starts anew at their start.

    They stay longer than a segment, so that some of a run is padding, and its length does not matter.
    """
    if len(data) < _LONG_FILE:
        return data
    parts, place = [], 0
    while (start := data.find(_LONG_RUN, place)) >= 0:
        match = _NO_PADDING.search(data, start + len(_LONG_RUN))
        parts.append(data[place : start + len(_LONG_RUN)])
        place = match.start() if match else len(data)
    return b"".join([*parts, data[place:]]) if parts else data


def _load(image: JpegFile, data: bytes) -> Image.Image:
    header = image.header
    try:
        image.load()
    except Exception as err:
        if not header.is_common:
            raise _unsupported(f"{_RARE_FRAMES[header.frame]} that cannot be decoded") from err
        if has_end(data, header) or not _is_complete(data, header):
            raise
    else:
        return image
    return _load_without_end(image, data)


def _load_without_end(image: JpegFile, data: bytes) -> Image.Image:
    """Load a JPEG that has no end marker.

    Raises:
        UndecodableImageError: if more than the marker is missing.
    """
    frame = list(image.tile), image.size, image.decoderconfig
    image.close()  # frees the decoded pixels
    data = data.removesuffix(b"\xff")  # half of the end marker
    checksums = {_checksum(_load_with(data, image.header, frame, filler)) for filler in _FILLERS[1:]}
    whole = _load_with(data, image.header, frame, _FILLERS[0])
    if checksums != {_checksum(whole)}:
        raise UndecodableImageError("the JPEG image cannot be decoded: it is truncated")
    return whole


def _load_with(data: bytes, header: JpegHeader, frame: tuple[Any, Any, Any], filler: bytes) -> JpegFile:
    image = JpegFile(data, header, filler + END)
    image.tile, image._size, image.decoderconfig = list(frame[0]), frame[1], frame[2]
    image.load()
    return image


def _checksum(image: Image.Image) -> int:
    checksum = 0
    for top in range(0, image.height, _ROWS):
        strip = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        checksum = zlib.crc32(strip.tobytes(), checksum)
    return checksum


def _is_complete(data: bytes, header: JpegHeader) -> bool:
    """Return whether the scans give every coefficient, and the last scan has all its restart markers."""
    missing = {(name, i) for name, _, _ in header.layers for i in range(_NUM_COEFFICIENTS)}
    interval, place, names = _restart_interval(data, header), header.scan, b""
    for _ in count_parts(data):
        match = _NEXT_PART.search(data, place)
        if match is None:
            break
        place = match.start(1) - 1
        end = place + 2 + max(2, int.from_bytes(data[place + 2 : place + 4]))
        body = data[place + 4 : end]
        if end > len(data):
            return False
        if match[1][0] == _RESTART_INTERVAL and len(body) >= 2:
            interval = int.from_bytes(body[:2])
        elif match[1][0] == _SCAN:
            if not body or len(body) < 4 + 2 * body[0]:
                return False
            names = body[1 : 1 + 2 * body[0] : 2]
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            if bits & 15 == 0:
                missing = {(name, i) for name, i in missing if name not in names or not first <= i <= last}
        place = end
    num_restarts = sum(data.count(restart, place) for restart in _RESTARTS)
    return not missing and (not interval or num_restarts >= math.ceil(_num_units(header, names) / interval) - 1)


def _restart_interval(data: bytes, header: JpegHeader) -> int:
    intervals = [data[place + 4 : end] for marker, place, end in _segments(data[: header.scan + 5])
                 if marker == _RESTART_INTERVAL]  # fmt: skip
    return int.from_bytes(intervals[-1][:2]) if intervals else 0


def _num_units(header: JpegHeader, names: bytes) -> int:
    """Return how many coded units a scan of components has."""
    most_across, most_down = (max(layer[i] or 1 for layer in header.layers) for i in (1, 2))
    width, height = header.size
    if len(names) == 1:
        across, down = next(((a or 1, d or 1) for name, a, d in header.layers if name == names[0]), (1, 1))
        return math.ceil(math.ceil(width * across / most_across) / 8) * math.ceil(
            math.ceil(height * down / most_down) / 8
        )
    return math.ceil(width / (8 * most_across)) * math.ceil(height / (8 * most_down))
