"""Builds synthetic images, the same on every machine, to check a model without its data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contract.model import InputSpec

NUM_IMAGES = 4


def build_synthetic_images(spec: InputSpec) -> NDArray[np.uint8]:
    """Return NUM_IMAGES images: fine noise, coarse noise and two ramps under noise.

    Integer arithmetic only, and no random generator whose stream a library may change.

    Returns:
        uint8, shape (NUM_IMAGES, height, width, channels).
    """
    rows, columns, channels = np.indices(spec.shape, dtype=np.uint32)
    block = np.uint32(max(2, min(spec.height, spec.width) // 8))
    ramp = columns * np.uint32(255) // np.uint32(max(1, spec.width - 1))
    images = [
        _noise(rows, columns, channels),
        _noise(rows // block, columns // block, channels),
        ramp // 2 + _noise(rows, columns, channels) // 2,
        (255 - ramp) // 2 + _noise(rows // block, columns, channels) // 2,
    ]
    return np.stack(images).astype(np.uint8)


def _noise(rows: NDArray[np.uint32], columns: NDArray[np.uint32], channels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return values 0-255 by mixing coordinates (the finalizer of MurmurHash3); overflow wraps, as it is meant to."""
    mixed = rows * np.uint32(73856093) ^ columns * np.uint32(19349663) ^ (channels + 1) * np.uint32(83492791)
    mixed = (mixed ^ mixed >> 16) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ mixed >> 13) * np.uint32(0xC2B2AE35)
    return (mixed ^ mixed >> 16) & np.uint32(255)
