"""Opens a BMP; kinds that are not read are named."""

from __future__ import annotations

import struct
from functools import partial

from PIL import BmpImagePlugin

from contract.errors import UndecodableImageError, UnsupportedImageError
from contract.images.image_file import ImageFile, Opened, load_pixels

START = b"BM"
_OS2_HEADS = (12, 16, 64)
_HEADS = (12, 40, 52, 56, 64, 108, 124)
_RAW, _RLE8, _RLE4, _BITFIELDS = range(4)
_COMPRESSIONS = {4: "a JPEG inside", 5: "a PNG inside", 6: "masks for alpha", 11: "CMYK colours", 12: "CMYK colours",
                 13: "CMYK colours"}  # fmt: skip
_OS2_COMPRESSIONS = {3: "OS/2's Huffman coding", 4: "OS/2's run lengths of 24 bits"}
_BITS = (1, 4, 8, 16, 24, 32)


def open_bmp(data: bytes) -> Opened:
    """Read a BMP's header.

    Raises:
        UnsupportedImageError: if it is of a kind that is not read.
        UndecodableImageError: if there is no picture in it.
    """
    kind = _name_kind(data)
    if kind is not None:
        raise _unsupported(kind)
    try:
        image = BmpImagePlugin.BmpImageFile(ImageFile(data))
    except OSError as err:
        if "layout" in str(err):
            raise _unsupported("colour masks that are not common") from err
        raise UndecodableImageError("the BMP image cannot be decoded: its header is corrupt") from err
    except SyntaxError as err:
        raise UndecodableImageError("the BMP image cannot be decoded: its header is corrupt") from err

    return Opened("BMP", image, 1, lambda: 1, partial(load_pixels, image))


def _unsupported(kind: str) -> UnsupportedImageError:
    return UnsupportedImageError(
        f"expected a BMP of 1, 4, 8, 16, 24 or 32 bits a pixel, plain or in run lengths. Received: one with {kind}; "
        "convert it to PNG or JPEG first"
    )


def _name_kind(data: bytes) -> str | None:
    """Return what makes a BMP one that is not read; None if nothing does."""
    if len(data) < 34:
        return None
    (head,) = struct.unpack_from("<I", data, 14)
    if head not in _HEADS:
        return f"a header of {head} bytes"
    (bits,) = struct.unpack_from("<H", data, 24 if head == 12 else 28)
    (compression,) = struct.unpack_from("<I", data, 30) if head != 12 else (_RAW,)
    if bits not in _BITS and compression not in _COMPRESSIONS:
        return f"{bits} bits a pixel"
    if head in _OS2_HEADS and compression in _OS2_COMPRESSIONS:
        return _OS2_COMPRESSIONS[compression]
    if compression > _BITFIELDS:
        return _COMPRESSIONS.get(compression, f"compression {compression}")
    if {_RLE8: 8, _RLE4: 4}.get(compression, bits) != bits:
        return f"run lengths of {bits} bits a pixel"
    return None
