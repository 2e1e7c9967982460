"""Small pictures as data URIs: photographs as JPEG, filters and feature maps as PNG."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURE_PIXELS = 224
_MAP_PIXELS = 96


def stretch(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return values as pixels, their own lowest 0 and their highest 255."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


def varied_channels(maps: NDArray[np.float32], most: int) -> list[int]:
    """Return the channels that vary most over the places of a feature map, in their own order.

    Args:
        maps: shape (rows, columns, channels).
        most: how many.
    """
    return sorted(np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:most].tolist())


def filter_pictures(kernel: NDArray[np.float32], most: int) -> list[str]:
    """Return a convolution's first filters as data URIs, each stretched to its own range.

    Args:
        kernel: shape (rows, columns, channels, filters).
        most: how many.
    """
    pictures = [kernel[..., i] for i in range(min(kernel.shape[-1], most))]
    # Kernels over 1 or 3 channels have a colour; over more, their mean is shown.
    pictures = [p if p.shape[-1] == 3 else p.mean(axis=-1) for p in pictures]
    return [png_uri(stretch(p)) for p in pictures]


def png_uri(image: NDArray[np.uint8]) -> str:
    """Return a picture without loss, at most as large as a map is shown."""
    drawn = Image.fromarray(image)
    drawn.thumbnail((_MAP_PIXELS, _MAP_PIXELS))
    return _data_uri(drawn, "PNG")


def jpeg_uri(image: NDArray[np.uint8]) -> str:
    """Return a photograph, shape (height, width, 1 or 3)."""
    drawn = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    drawn.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    return _data_uri(drawn, "JPEG", quality=80)


def _data_uri(image: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
