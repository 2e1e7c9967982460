"""Image files of every kind that people and attackers send, written by Pillow and then, some of them, broken."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

_EXIF_ORIENTATION = 0x0112
SIZE = (40, 30)  # width, height


def picture(mode: str = "RGB") -> Image.Image:
    """Return a small picture with structure in it, in one of Pillow's modes."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    pixels = np.stack([x * 6, y * 8, (x + y) * 3, 255 - x * 2], axis=2).astype(np.uint8)
    if mode in ("I;16", "I;16B"):
        return Image.fromarray((x * 1000 + y).astype(">u2" if mode == "I;16B" else "<u2"))
    if mode == "I":
        return Image.fromarray((x * 1000 + y * 7).astype(np.int32))
    if mode == "F":
        return Image.fromarray((x * 0.01).astype(np.float32))
    return Image.fromarray(pixels, "RGBA").convert(mode) if mode != "RGBA" else Image.fromarray(pixels, "RGBA")


def write(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def readable() -> Iterator[tuple[str, bytes]]:
    """Give files that must be read, by name."""
    for kind, modes in {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
        "WEBP": ("RGB", "RGBA", "L"),
        "BMP": ("RGB", "L", "P", "1"),
        "TIFF": ("RGB", "RGBA", "L", "LA", "CMYK", "1", "I;16", "I;16B", "P", "LAB"),
        "GIF": ("RGB", "L", "P", "1"),
    }.items():
        for mode in modes:
            yield f"{kind}-{mode}", write(picture(mode), kind)
    yield "jpeg-progressive", write(picture(), "JPEG", progressive=True, quality=30)
    yield "jpeg-subsampled", write(picture(), "JPEG", subsampling=2, restart_marker_rows=1)
    for orientation in (*range(1, 9), 0, 9, 65535):
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = orientation
        yield f"jpeg-orientation-{orientation}", write(picture(), "JPEG", exif=exif)
    yield "jpeg-broken-exif", write(picture(), "JPEG", exif=damaged_exif(orientation=6))
    yield "jpeg-many-pictures", write(picture(), "MPO", save_all=True, append_images=[picture("L").convert("RGB")])
    yield "jpeg-with-a-tail", write(picture(), "JPEG") + b"PK\x03\x04" + b"<script>" * 50
    yield "png-palette-with-alpha", write(picture("P"), "PNG", transparency=3)
    yield "png-animated", write(picture(), "PNG", save_all=True, append_images=[picture().rotate(90)] * 3)
    yield "gif-animated", write(picture(), "GIF", save_all=True, append_images=[picture().rotate(90)] * 5, loop=0)
    yield "webp-animated", write(picture(), "WEBP", save_all=True, append_images=[picture().rotate(90)] * 3)
    yield "webp-lossless", write(picture("RGBA"), "WEBP", lossless=True)
    yield "tiff-pages", write(picture(), "TIFF", save_all=True, append_images=[picture("L"), picture("CMYK")])
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield compression, write(picture(), "TIFF", compression=compression)
    yield "one-pixel", write(picture().resize((1, 1)), "PNG")
    yield "a-line", write(picture().resize((3000, 1)), "PNG")
    yield "a-column", write(picture().resize((1, 3000)), "BMP")


def damaged_exif(orientation: int) -> bytes:
    """Return EXIF data with an orientation and a resolution of a wrong type, which Pillow reads but cannot write."""
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION], exif[0x011A] = orientation, 72.0
    data = bytearray(exif.tobytes())
    data[31] = 2  # the second tag's type: text instead of a fraction
    return bytes(data)


def unreadable() -> Iterator[tuple[str, bytes, int]]:
    """Give files that are refused, by name and with the status."""
    yield "empty", b"", 400
    yield "one-byte", b"\xff", 415
    yield "zeros", bytes(5000), 415
    yield "float-tiff", write(picture("F"), "TIFF"), 415
    # Nothing behind the first bytes of their formats.
    yield "dicom", bytes(128) + b"DICM" + bytes(200), 400
    yield "heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), 400
    yield "avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(100), 400
    for kind in ("PPM", "PCX", "TGA", "ICO", "SGI", "EPS", "PDF", "JPEG2000", "DDS"):
        yield kind.lower(), write(picture(), kind), 415
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', 415
    yield "fits", b"SIMPLE  =                    T".ljust(2880), 415
    yield "psd", b"8BPS\0\x01" + bytes(60), 415
    yield "png-30000-x-30000", png_of(30_000, 30_000), 413
    yield "png-2-to-the-31", png_of(2**31 - 1, 2**31 - 1, rows=b""), 413
    yield "jpeg-65500-x-65500", jpeg_of(65_500, 65_500), 413
    yield "gif-65535-x-65535", gif_of(65_535, 65_535), 413
    yield "bmp-60000-x-60000", bmp_of(60_000, 60_000), 413
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        whole = write(picture(), kind)
        yield f"{kind}-half", whole[: len(whole) // 2], 400


def broken(seed: int = 1, *, copies: int = 12) -> Iterator[tuple[str, bytes]]:
    """Give files that were cut off or changed at random places; some can still be read."""
    generator = random.Random(seed)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        whole = write(picture("RGBA" if kind in ("PNG", "WEBP") else "RGB"), kind)
        for i in range(copies):
            yield f"{kind}-cut-{i}", whole[: generator.randrange(1, len(whole))]
            changed = bytearray(whole)
            for _ in range(generator.choice((1, 4, 30))):
                changed[generator.randrange(len(changed))] = generator.randrange(256)
            yield f"{kind}-changed-{i}", bytes(changed)
            start = generator.randrange(len(whole))
            yield f"{kind}-without-a-part-{i}", whole[:start] + whole[start + generator.randrange(1, 60) :]
    yield "png-text-bomb", _png_with_text_bomb()


def png_of(width: int, height: int, rows: bytes | None = None) -> bytes:
    """Return a PNG of a few kilobytes that declares a size, with data for that many black rows unless told."""
    if rows is None:
        compressor = zlib.compressobj(9)
        row = bytes(1 + width // 8)
        rows = b"".join(compressor.compress(row * 1000) for _ in range(height // 1000)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in chunks)


def jpeg_of(width: int, height: int) -> bytes:
    """Return a JPEG whose header declares another size than its data has."""
    data = write(picture(), "JPEG")
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


def gif_of(width: int, height: int) -> bytes:
    """Return a GIF whose screen and frame declare another size than its data has."""
    data = bytearray(write(picture("P"), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    frame = data.index(b",\0\0\0\0") + 5
    data[frame : frame + 4] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp_of(width: int, height: int) -> bytes:
    """Return a BMP whose header declares another size than its data has."""
    data = bytearray(write(picture(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def _png_with_text_bomb() -> bytes:
    """Return a PNG with a compressed text that inflates to 100 MB."""
    compressor = zlib.compressobj(9)
    text = b"".join(compressor.compress(bytes(10**6)) for _ in range(100)) + compressor.flush()
    whole = write(picture(), "PNG")
    return whole[:33] + _chunk(b"zTXt", b"bomb\0\0" + text) + whole[33:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
