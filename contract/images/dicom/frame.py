"""Checks the compressed frame of a DICOM file before pydicom decodes it: its size bounds the work and memory."""

from __future__ import annotations

import itertools
import struct
from typing import Any

from PIL import Image

from contract.errors import ImageTooLargeError, UndecodableImageError
from contract.images.image_file import ImageFile, count_parts
from contract.images.jpeg import read_jpeg_header, without_notes

_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_HEAD_BYTES = 8
_JP2_START = b"\0\0\0\x0cjP  "
_BOX_HEAD_BYTES, _CODE_STREAM = 8, b"jp2c"
_SCAN, _MAX_SCANS = b"\xff\xda", 100  # of a JPEG frame; each looks at all pixels anew
_MAX_SEGMENTS = 15  # of an RLE frame, by the standard
_RUN = 128  # RLE: above it a byte is repeated; below it bytes follow as they are
_MOST_FROM_A_BYTE = 64  # of an RLE frame: 128 bytes from 2
_SPARE_TIMES, _SPARE_BYTES = 2, 128  # how much longer than the picture a segment may be; some programs pad it


def check_frame(dataset: Any, coding: str) -> None:
    """Replace a data set's encapsulated pixels by the one frame in them, without what makes no pixels.

    pydicom would look for frames at the places that the file's tables name, and decode all that it finds.

    Args:
        dataset: of one frame.
        coding: "RLE", "JPEG" or "JPEG 2000".

    Raises:
        ImageTooLargeError: if the frame is larger than the data set says.
        ImageError: if it is damaged, or of a kind that is not read.
    """
    from pydicom.encaps import encapsulate

    frame = _join_fragments(dataset.PixelData)
    size = (int(dataset.Columns), int(dataset.Rows))
    if coding == "RLE":
        _check_segments(frame, size)
    elif coding == "JPEG":
        header = read_jpeg_header(frame)
        _check_size(header.size, size, coding)
        frame = without_notes(frame, header)
        if frame.count(_SCAN) > _MAX_SCANS:
            raise UndecodableImageError("the DICOM image cannot be decoded: its JPEG data has too many scans")
    else:
        frame = _code_stream(frame)
        with Image.open(ImageFile(frame), formats=("JPEG2000",)) as image:
            _check_size(image.size, size, coding)
    dataset.PixelData = encapsulate([frame])


def _join_fragments(data: bytes) -> bytes:
    """Return the bytes of all items but the first, which is a table of places of frames."""
    fragments, place = [], 0
    for _ in count_parts(data):
        if data[place : place + len(_ITEM)] != _ITEM:
            break
        end = place + _ITEM_HEAD_BYTES + int.from_bytes(data[place + len(_ITEM) : place + _ITEM_HEAD_BYTES], "little")
        fragments.append(data[place + _ITEM_HEAD_BYTES : end])
        place = end
    return b"".join(fragments[1:])


def _check_size(found: tuple[int, int], expected: tuple[int, int], coding: str) -> None:
    if found != expected:
        raise ImageTooLargeError(
            f"expected {coding} data of {expected[0]} x {expected[1]} in a DICOM file. "
            f"Received: {found[0]} x {found[1]}"
        )


def _code_stream(frame: bytes) -> bytes:
    """Return a JPEG 2000 frame without the boxes that some programs write before its code stream."""
    if not frame.startswith(_JP2_START):
        return frame
    place = 0
    for _ in count_parts(frame):
        size, name = struct.unpack_from(">I4s", frame, place)
        if name == _CODE_STREAM:
            return frame[place + _BOX_HEAD_BYTES * (2 if size == 1 else 1) :]
        if size < _BOX_HEAD_BYTES:
            break
        place += size
    raise UndecodableImageError("the DICOM image cannot be decoded: its JPEG 2000 data is corrupt")


def _check_segments(frame: bytes, size: tuple[int, int]) -> None:
    """Refuse an RLE frame with a segment that unpacks to more than a plane of the picture: all of it is unpacked."""
    (count,) = struct.unpack_from("<I", frame)
    starts = [*struct.unpack_from(f"<{min(count, _MAX_SEGMENTS)}I", frame, 4), len(frame)]
    if starts != sorted(starts):
        raise UndecodableImageError("the DICOM image cannot be decoded: its RLE segments are corrupt")
    most = _SPARE_TIMES * size[0] * size[1] + _SPARE_BYTES
    for start, end in itertools.pairwise(starts):
        if (end - start) * _MOST_FROM_A_BYTE > most and _unpacked_bytes(frame, start, end, most) > most:
            raise ImageTooLargeError(
                f"expected RLE data of {size[0]} x {size[1]} in a DICOM file. Received: over {most} bytes a plane; "
                "the file is damaged, write it anew"
            )


def _unpacked_bytes(frame: bytes, start: int, end: int, most: int) -> int:
    """Return how many bytes an RLE segment unpacks to, or a number above `most`."""
    count = 0
    while start < end and count <= most:
        head = frame[start]
        if head > _RUN:
            count += 257 - head
            start += 2
        elif head < _RUN:
            count += head + 1
            start += head + 2
        else:
            start += 1
    return count
