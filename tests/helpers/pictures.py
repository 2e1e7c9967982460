"""Image files for tests, made here: colours that the tiny model can tell apart, and unreadable files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.tiny_model import build_image

COLOURS = ("red", "green", "blue")


def encode(colour: str, image_format: str = "PNG", *, size: int = 16, **options: Any) -> bytes:
    """Return an image file full of a colour."""
    buffer = io.BytesIO()
    Image.fromarray(build_image(colour, size)).save(buffer, image_format, **options)
    return buffer.getvalue()


def truncated_jpeg() -> bytes:
    """Return the first half of a JPEG of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


def png_bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """Return a PNG of a few kilobytes whose header declares many pixels, and whose data really has them."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = b"\0" * (1 + width // 8)
    data = b"".join(compressor.compress(row * 1000) for _ in range(height // 1000)) + compressor.flush()
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
