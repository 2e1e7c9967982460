"""Scales samples that use only their lower bits, where PNG's sBIT says how many are significant.

The PNG standard has encoders scale samples up to the full depth, so that sBIT changes no pixel. Some programs store
12-bit samples as they are and write sBIT 12: all values are below 2**12, and some are not what scaling gives. Only such
pictures are scaled, over the range of their significant bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.images.depth import scale_to_8

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by PNG's colour type; a palette's entries are 8-bit colours
_BAND_PIXELS = 1 << 17
_LOW_BYTES = {"RGB": "RGB;16L", "RGBA": "RGBA;16L"}  # Pillow's names of pixels whose second byte counts

Reopen = Callable[[str], Image.Image]


def scale_significant(
    image: Image.Image, bits: Sequence[int], *, color_type: int, depth: int, reopen: Reopen
) -> Image.Image:
    """Return a PNG's picture, scaled over its significant bits if its samples use only these.

    Args:
        image: loaded; 16-bit samples of several channels are their upper bytes.
        bits: sBIT's contents.
        color_type: PNG's colour type.
        depth: bits a sample.
        reopen: decodes the picture anew, with another of Pillow's raw modes.
    """
    channels = _CHANNELS.get(color_type, 0)
    bits = bits[:channels]
    if depth < 8 or not bits or len(bits) < channels or not all(1 <= value <= depth for value in bits):
        return image
    if min(bits) == depth or image.mode not in ("L", "I;16", "RGB", "RGBA") or (color_type == 4):
        return image
    low: Image.Image | None = None
    if depth == 16 and image.mode != "I;16":
        if any(top > (1 << count) - 1 >> 8 for (_, top), count in zip(_extrema(image), bits, strict=True)):
            return image
        low = reopen(_LOW_BYTES[image.mode])
    if not _uses_low_bits(image, low, bits, depth):
        return image
    scaled = image if image.mode != "I;16" else Image.new("L", image.size)
    for box, values in _bands(image, low):
        parts = [scale_to_8(values[:, :, i], count) for i, count in enumerate(bits)]
        pixels = parts[0] if len(parts) == 1 else np.stack(parts, axis=2)
        scaled.paste(Image.fromarray(pixels), box)
    return scaled


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    return [(int(low), int(high)) for low, high in np.reshape(image.getextrema(), (-1, 2))]


def _uses_low_bits(image: Image.Image, low: Image.Image | None, bits: Sequence[int], depth: int) -> bool:
    """Return whether all values fit in the significant bits, and some are not what an encoder's scaling gives."""
    has_other = False
    for _, values in _bands(image, low):
        for i, count in enumerate(bits):
            if int(values[:, :, i].max()) >= 1 << count:
                return False
            has_other = has_other or not bool(_scaled_values(count, depth)[values[:, :, i]].all())
    return has_other


@functools.cache
def _scaled_values(bits: int, depth: int) -> NDArray[np.bool_]:
    """Return which values a sample has after scaling: shifted, with the upper bits repeated, or in proportion."""
    table = np.zeros(1 << depth, np.bool_)
    samples = np.arange(1 << bits, dtype=np.int64)
    shifted = samples << (depth - bits)
    highest = (1 << depth) - 1
    repeated, filled = shifted.copy(), bits
    while filled < depth:
        repeated |= shifted >> filled
        filled *= 2
    proportional = samples * highest / ((1 << bits) - 1)
    for values in (shifted, repeated, np.floor(proportional), np.rint(proportional)):
        table[values.astype(np.int64)] = True
    return table


def _bands(image: Image.Image, low: Image.Image | None) -> Iterator[tuple[tuple[int, int, int, int], NDArray[Any]]]:
    """Give boxes that cover the picture, and their values, shape (rows, columns, channels)."""
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        values = np.asarray(image.crop(box))
        if low is not None:
            values = values.astype(np.uint16) << 8 | np.asarray(low.crop(box))
        yield box, values if values.ndim == 3 else values[:, :, None]
