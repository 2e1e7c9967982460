"""Scales samples of any number of bits to 8, over the whole range of their significant bits."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TABLE_BITS = 16  # tables up to 64 KiB; wider samples are computed
_MAX_BITS = 32


def scale_to_8(values: NDArray[Any], significant_bits: int, signed: bool = False) -> NDArray[np.uint8]:
    """Scale whole-number samples to 8 bits: round(255 * (v - lowest) / (highest - lowest)).

    The range is that of the bits, never that of the values: 0 to 2**bits - 1, or -2**(bits - 1) to 2**(bits - 1) - 1
    for signed samples. The same value becomes the same grey in every image.

    Args:
        values: integers of any shape. Values outside the range become its ends; a caller whose samples carry other
            data in their upper bits removes those bits first.
        significant_bits: 1 to 32, such as TIFF's BitsPerSample, PNG's sBIT or DICOM's BitsStored.
        signed: whether the samples are two's complement numbers.

    Returns:
        uint8, of the same shape.
    """
    if not 1 <= significant_bits <= _MAX_BITS:
        raise ValueError(f"significant_bits: expected 1 to {_MAX_BITS}. Received: {significant_bits}")
    highest = (1 << significant_bits) - 1
    lowest = -(1 << (significant_bits - 1)) if signed else 0
    scaled: NDArray[np.uint8]
    if not signed and values.dtype.kind == "u" and significant_bits <= _TABLE_BITS:
        table = scaling_table(significant_bits)
        if np.iinfo(values.dtype).max > highest:
            values = np.minimum(values, highest)
        scaled = table[values]
        return scaled
    shifted = np.clip(values.astype(np.int64) - lowest, 0, highest)
    return ((shifted * 510 + highest) // (2 * highest)).astype(np.uint8)


@functools.cache
def scaling_table(significant_bits: int) -> NDArray[np.uint8]:
    """Return the 8-bit value of each unsigned value of up to 16 bits."""
    highest = (1 << significant_bits) - 1
    values = np.arange(highest + 1, dtype=np.int64)
    table = ((values * 510 + highest) // (2 * highest)).astype(np.uint8)
    table.setflags(write=False)
    return table
