"""Turns any pixels into RGB or grey; strips bound the memory."""

from __future__ import annotations

import numpy as np
from PIL import Image

from contract.errors import UnsupportedImageError

_STRIP_PIXELS = 1 << 18  # pixels whose colours are converted at a time
_WAY_ROUND = "convert it to PNG or JPEG first"


def to_color(image: Image.Image, color: str, *, decoder: int) -> Image.Image:
    """Return an image of mode "RGB" or "L" by the rules of a decoder version; see contract/image.py."""
    mode = "L" if color == "grey" else "RGB"
    if image.mode == "F":
        raise UnsupportedImageError(f"expected whole-number pixels. Received: floating-point pixels; {_WAY_ROUND}")
    if image.mode == mode and "transparency" not in image.info:
        return image
    over_black = _has_alpha(image) and (decoder == 1 or not _is_clear(image))
    if image.width * image.height <= _STRIP_PIXELS:
        return _convert(image, mode, over_black=over_black)
    converted = Image.new(mode, image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        converted.paste(_convert(image.crop(box), mode, over_black=over_black), box)
    return converted


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _is_clear(image: Image.Image) -> bool:
    """Return whether no pixel shows: alpha is 0 everywhere."""
    middle = image.height // 2
    rows = max(1, _STRIP_PIXELS // image.width)
    tops = [(middle, 1), *((top, rows) for top in range(0, image.height, rows))]  # one row tells of nearly all images
    return not any(_shows(image.crop((0, top, image.width, min(top + high, image.height)))) for top, high in tops)


def _shows(image: Image.Image) -> bool:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if not _has_alpha(image):
        return True
    alpha = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    return alpha.getchannel("A").getbbox() is not None


def _convert(image: Image.Image, mode: str, *, over_black: bool) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if over_black and _has_alpha(image):
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        image.alpha_composite(rgba)
    else:
        image.info.pop("transparency", None)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (modes "I;16*", and "I" as some files open) to mode "L"."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise UnsupportedImageError(f"expected at most 16 bits a pixel. Received: mode {image.mode}; {_WAY_ROUND}")
    return Image.fromarray(((values.astype(np.int32) * 255 + 32767) // 65535).astype(np.uint8))
