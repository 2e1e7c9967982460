"""Measures the quality of one image for the audit: facts of its file, and statistics of its decoded pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.image import ImageHeader
from pipeline.data.image_facts import ImageFacts
from pipeline.data.ingest import Example

_THUMBNAIL, _SMALL_THUMBNAIL = 64, 32  # pixels a side, of pictures that have as many and of smaller ones
_DARKEST, _BRIGHTEST = 0.01, 0.99  # shares of the pixels that count as outliers when brightness is judged


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """The quality of one image, measured on the pixels that the model sees, or on its own where these are fewer.

    Attributes:
        header: format, size, mode, orientation and frames, as the file says.
        pixels_sha256: hex digest of the pixels and their shape; equal for copies in another format.
        thumbnail: grey levels by rows, stretched to 64 x 64 pixels, those of smaller pictures to 32 x 32.
        darkest: grey level, 0-255, that 1 % of the pixels are at or below.
        brightest: grey level, 0-255, that 99 % of the pixels are at or below.
        sharpness: variance of the Laplacian over the variance of the grey levels; no unit, 0 without any detail.
    """

    header: ImageHeader
    pixels_sha256: str
    thumbnail: bytes
    darkest: int
    brightest: int
    sharpness: float

    @property
    def contrast(self) -> int:
        """Grey levels between the darkest and the brightest."""
        return self.brightest - self.darkest


@dataclass(frozen=True, slots=True)
class AuditedImage:
    """A readable image.

    Attributes:
        example: the image's path, label and split.
        sha256: hex digest of the file's bytes.
        quality: the measures.
        facts: those beside its subject.
    """

    example: Example
    sha256: str
    quality: ImageQuality
    facts: ImageFacts


def measure_quality(header: ImageHeader, pixels: NDArray[np.uint8]) -> ImageQuality:
    """Measure one image.

    Args:
        header: of its file.
        pixels: uint8, shape (height, width, channels), 1 or 3 channels.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    grey = image.convert("L")
    shares = np.cumsum(grey.histogram()) / (grey.width * grey.height)
    side = _THUMBNAIL if min(grey.size) >= _THUMBNAIL else _SMALL_THUMBNAIL
    return ImageQuality(
        header,
        hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(),
        grey.resize((side, side), Image.Resampling.LANCZOS).tobytes(),
        int(np.searchsorted(shares, _DARKEST)),
        int(np.searchsorted(shares, _BRIGHTEST)),
        _sharpness(np.asarray(grey, np.int16)),
    )


def _sharpness(grey: NDArray[np.int16]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = 4 * grey[1:-1, 1:-1]
    edges = inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(edges.var() / max(grey.var(), 1.0))
