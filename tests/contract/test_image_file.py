"""Files that consist of very many parts, or refer to the same bytes again and again."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from contract.errors import ImageError
from contract.image import decode_image
from contract.model import InputSpec

SPEC = InputSpec(height=16, width=16)


def save(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, kind)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def overlapping_tags(order: str, size: int) -> bytes:
    """Return TIFF data whose 4,000 tags all refer to the same bytes."""
    tags = b"".join(struct.pack(order + "HHII", 40_000 + n, 7, size - 60_000, 55_000) for n in range(4000))
    start = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return (start + struct.pack(order + "H", 4000) + tags).ljust(size, b"\0")


JPEG, PNG, GIF = save("JPEG"), save("PNG"), save("GIF")
EXIF = b"Exif\0\0" + overlapping_tags("<", 65_000)
FILES = {
    "JPEG of comments": JPEG[:2] + b"\xff\xfe\0\2" * 500_000 + JPEG[2:],
    "JPEG of padding": JPEG[:2] + b"\xff" * 2_000_000 + JPEG[2:],
    "JPEG of EXIF segments": JPEG[:2] + (b"\xff\xe1\xff\xff" + b"Exif\0\0".ljust(65_533, b"\0")) * 100 + JPEG[2:],
    "JPEG whose tags overlap": JPEG[:2]
    + b"\xff\xe1"
    + struct.pack(">H", len(EXIF[:65_000]) + 2)
    + EXIF[:65_000]
    + JPEG[2:],
    "PNG of chunks": PNG[:33] + chunk(b"abCd", b"") * 200_000 + PNG[33:],
    "PNG of empty data": PNG[:33] + chunk(b"IDAT", b"") * 200_000 + PNG[33:],
    "GIF of comments": GIF[:-1].replace(
        b"\x2c\0\0\0\0", b"\x21\xfe" + (b"\xff" + b"c" * 255) * 20_000 + b"\0\x2c\0\0\0\0"
    ),
    "TIFF whose tags overlap": overlapping_tags("<", 2_000_000),
}


@pytest.mark.parametrize("name", FILES)
def test_work_beside_the_pixels_is_bounded(name: str) -> None:
    """Refused, and not after minutes or gigabytes; without these parts the same images are read."""
    with pytest.raises(ImageError):
        decode_image(FILES[name], SPEC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_ordinary_files_are_read(kind: str) -> None:
    """With a comment, in chunks of 8 KB, of any format."""
    assert (16, 16, 3) == decode_image(save(kind), SPEC).shape
