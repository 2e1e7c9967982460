"""Measures the quality of one image for the audit: facts of its file, and statistics of its decoded pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.image import ImageHeader
from pipeline.data.image_facts import ImageFacts
from pipeline.data.ingest import Example

HASH_SIDE = 16  # the hash has 16 x 16 bits: 64 do not tell one fundus photograph from the next (decision 0009)
_DARKEST, _BRIGHTEST = 0.01, 0.99  # shares of the pixels that count as outliers when brightness is judged


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """The quality of one image, measured on the pixels that the model sees.

    Attributes:
        header: format, size, mode, orientation and frames, as the file says.
        pixels_sha256: hex digest of the pixels; equal for copies in another format.
        fingerprint: 256-bit perceptual hash, 32 bytes; near copies differ in few bits, a mirrored eye in half of them.
        darkest: grey level, 0-255, that 1 % of the pixels are at or below.
        brightest: grey level, 0-255, that 99 % of the pixels are at or below.
        sharpness: variance of the Laplacian over the variance of the grey levels; no unit, 0 without any detail.
    """

    header: ImageHeader
    pixels_sha256: str
    fingerprint: bytes
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
    bits = imagehash.phash(grey, hash_size=HASH_SIDE).hash
    return ImageQuality(
        header,
        hashlib.sha256(pixels.tobytes()).hexdigest(),
        np.packbits(bits).tobytes(),
        int(np.searchsorted(shares, _DARKEST)),
        int(np.searchsorted(shares, _BRIGHTEST)),
        _sharpness(np.asarray(grey, np.int16)),
    )


def _sharpness(grey: NDArray[np.int16]) -> float:
    inner = 4 * grey[1:-1, 1:-1]
    edges = inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(edges.var() / max(grey.var(), 1.0))
