"""Opens AVIF images with Pillow, and HEIC images with pi-heif, the extra `heic`; one thread decodes an image.

The primary image is read. Rotation and mirroring of the container are applied as EXIF orientations are.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import AvifImagePlugin, Image

from contract.errors import UndecodableImageError
from contract.images.exif import ORIENTATION, find_tag, read_orientation, valid_orientation
from contract.images.image_file import Opened, check_extra, load_pixels

_BRAND = slice(8, 12)
_BOX_BYTES = 64  # of the first box, which lists the brands that a file is compatible with
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2")

AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class AvifFile(AvifImagePlugin.AvifImageFile):
    """Pillow's AVIF image; Pillow's own reader copies what the tags of the EXIF data claim, here one tag is read.

    Attributes:
        orientation: EXIF orientation, 1 to 8, by the container where it turns the picture.
    """

    orientation: int

    def _open(self) -> None:
        data = self.fp.read() if self.fp is not None else b""
        self._decoder = AvifImagePlugin._avif.AvifDecoder(  # type: ignore[attr-defined]
            data, AvifImagePlugin.DECODE_CODEC_CHOICE, AvifImagePlugin.DEFAULT_MAX_THREADS
        )
        self._size, self.n_frames, self._mode, _, exif, turn, xmp = self._decoder.get_info()
        self.is_animated = self.n_frames > 1
        # The container's word is the last where EXIF has one too; where both are silent, XMP may tell.
        is_told = turn != 1 or find_tag(exif or b"", ORIENTATION) is not None
        self.orientation = valid_orientation(turn) if is_told else read_orientation(None, xmp)
        self.seek(0)


def is_avif(data: bytes) -> bool:
    """Return whether a file's first bytes are those of an AVIF image."""
    if data[4:8] != b"ftyp":
        return False
    return data[_BRAND] in _AVIF_BRANDS or (data[_BRAND] in (b"mif1", b"msf1") and _is_compatible(data, _AVIF_BRANDS))


def is_heic(data: bytes) -> bool:
    """Return whether a file's first bytes are those of a HEIC image."""
    return data[4:8] == b"ftyp" and data[_BRAND] in _HEIC_BRANDS and not is_avif(data)


def open_avif(data: bytes) -> Opened:
    """Read an AVIF image's header.

    Raises:
        UndecodableImageError: if it is damaged.
    """
    return _open("AVIF", AvifFile, data)


def open_heic(data: bytes) -> Opened:
    """Read a HEIC image's header.

    Raises:
        UnsupportedImageError: if pi-heif is not installed.
        UndecodableImageError: if the image is damaged.
    """
    check_extra("heic", "pi_heif", "a HEIC image", "phones can be set to take JPEG")
    from pi_heif import HeifImageFile, options

    options.DECODE_THREADS = 1
    # Nothing but the picture is decoded.
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return _open("HEIC", HeifImageFile, data)


def _is_compatible(data: bytes, brands: tuple[bytes, ...]) -> bool:
    end = min(int.from_bytes(data[:4], "big"), _BOX_BYTES)
    return any(data[place : place + 4] in brands for place in range(16, end, 4))


def _open(name: str, read: Callable[[Any], Image.Image], data: bytes) -> Opened:
    try:
        image = read(io.BytesIO(data))
        if isinstance(image, AvifFile):
            orientation = image.orientation
        else:
            orientation = read_orientation(image.info.get("exif"), image.info.get("xmp"))
    except (SyntaxError, OSError, ValueError, RuntimeError, EOFError) as err:
        raise UndecodableImageError(f"the {name} image cannot be decoded: its header is corrupt") from err

    return Opened(name, image, orientation, lambda: int(getattr(image, "n_frames", 1)), partial(load_pixels, image))
