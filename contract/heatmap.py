"""A saliency map drawn over the picture that it explains; a colour table of its own, no matplotlib."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# From nothing to most: dark violet, red, orange, pale yellow; lightness rises all the way, so that it also reads in
# grey and with any kind of colour vision.
_LEVELS = (0, 85, 170, 255)
_ANCHORS = np.array([[45, 11, 89], [165, 44, 96], [240, 112, 32], [252, 255, 164]])
COLORS: NDArray[np.uint8] = (
    np.stack([np.interp(np.arange(256), _LEVELS, channel) for channel in _ANCHORS.T], axis=1).round().astype(np.uint8)
)
_STRENGTH = 0.7  # opacity where the saliency is 1; the picture must stay recognisable everywhere


def draw_heatmap(image: NDArray[np.uint8], saliency: NDArray[np.float32], *, scale: int = 1) -> NDArray[np.uint8]:
    """Return an image in grey under a saliency map: colour where the map is high, plain grey where it is zero.

    Grey, because colours on a picture of an eye or of tissue would not be seen.

    Args:
        image: uint8, shape (height, width, channels), 1 or 3 channels.
        saliency: float32, shape (rows, columns), in [0, 1]; smoothly enlarged to the image.
        scale: how many times larger the drawing is than the image.

    Returns:
        uint8, shape (height * scale, width * scale, 3), RGB.
    """
    size = (image.shape[1] * scale, image.shape[0] * scale)
    levels = (np.clip(saliency, 0, 1) * 255 + 0.5).astype(np.uint8)
    heat = np.asarray(Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR))
    grey = Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).convert("L")
    ground = np.asarray(grey.resize(size, Image.Resampling.BILINEAR), np.float32)[..., None]
    opacity = heat[..., None].astype(np.float32) * (_STRENGTH / 255)
    return np.asarray(ground * (1 - opacity) + COLORS[heat] * opacity + 0.5).astype(np.uint8)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return a PNG file of an RGB image, uint8, shape (height, width, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
