"""Computes the low spatial frequencies of small grey pictures: perceptual hashes, and descriptors to correlate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pipeline.audit.registration import sample_matrix

Floats = NDArray[np.float32]
Window = tuple[float, float, float, float]  # left, right, upper, lower, in sides of the picture

HASH_SIDE = 16  # the hash has 16 x 16 bits: 64 do not tell one fundus photograph from the next (decision 0009)
ORIENTATIONS = 8  # bits of a number: 1 mirrors left and right, 2 top and bottom, 4 swaps rows and columns before
HASH_BYTES = HASH_SIDE * HASH_SIDE // 8
_FREQUENCIES = 12  # along each side, in a descriptor
_PRIOR = 32  # images as whose mean 0 counts
_BATCH = 2048  # pictures at a time: bounds memory


def stack_thumbnails(thumbnails: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return square thumbnails of one side as an array, shape (pictures, side, side)."""
    side = round(len(thumbnails[0]) ** 0.5)
    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), side, side)


def hash_pictures(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 256-bit perceptual hashes, shape (pictures, 32).

    The bits of imagehash's `phash` with `hash_size=16`: near copies differ in few, mirrored ones in half of them.
    """
    hashes = np.empty((len(pictures), HASH_BYTES), np.uint8)
    for batch in _batches(len(pictures)):
        spectrum = scipy.fft.dctn(pictures[batch].astype(np.float32), axes=(1, 2))
        low = spectrum[:, :HASH_SIDE, :HASH_SIDE].reshape(len(spectrum), -1)
        hashes[batch] = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return hashes


def orient(pictures: Floats, orientations: NDArray[np.intp]) -> Floats:
    """Return pictures mirrored and turned, each by its own orientation."""
    turned = pictures.copy()
    for orientation in np.unique(orientations):
        chosen = orientations == orientation
        some = pictures[chosen].transpose(0, 2, 1) if orientation & 4 else pictures[chosen]
        turned[chosen] = some[:, :: -1 if orientation & 2 else 1, :: -1 if orientation & 1 else 1]
    return turned


@dataclass(frozen=True)
class Basis:
    """Statistics of a set of pictures that its descriptors are made with.

    Attributes:
        weights: of the frequencies, shape (_FREQUENCIES, _FREQUENCIES).
        mean: of the set, as `weights`.
    """

    weights: Floats
    mean: Floats


@dataclass(frozen=True)
class Descriptors:
    """Descriptors of unit length: copies correlate, whatever the brightness.

    Frequencies weigh alike, though pictures have more of the low ones, and the mean of the set is taken away: what all
    its pictures share, such as a round rim, tells nothing. The mean is that of all orientations of the pictures, so an
    orientation of a picture is one of its descriptor: a sign for each frequency, and a transposition.

    Attributes:
        pictures: grey levels, shape (pictures, side, side).
        basis: of the set, or of one that most of its pictures belong to.
    """

    pictures: NDArray[np.uint8]
    basis: Basis

    @classmethod
    def of(cls, pictures: NDArray[np.uint8]) -> Descriptors:
        """Return the descriptors of a set of at least one picture."""
        whole = _cosines(pictures.shape[1])
        spectra = np.concatenate([_spectra(pictures[batch], whole, whole) for batch in _batches(len(pictures))])
        frequency = np.arange(_FREQUENCIES)
        band = np.round(np.hypot(frequency[:, None], frequency)).astype(int)
        power = np.bincount(band.ravel(), (spectra**2).mean(0).ravel()) / np.bincount(band.ravel())
        weights = (1 / np.sqrt(power + 1e-12))[band].astype(np.float32)
        weights[0, 0] = 0
        weighted = _unit(spectra * weights)
        mean = np.mean([_orient_spectra(weighted, number).mean(0) for number in range(ORIENTATIONS)], axis=0)
        shrunk = mean * (len(pictures) / (len(pictures) + _PRIOR))
        return cls(pictures, Basis(weights, shrunk.astype(np.float32)))

    def oriented(self, orientation: int) -> Floats:
        """Return the descriptors of the mirrored and turned pictures, shape (pictures, frequencies)."""
        whole = _cosines(self.pictures.shape[1])
        return self._describe(whole, whole, orientation)

    def cropped(self, window: Window) -> Floats:
        """Return the descriptors of one window of each picture."""
        side = self.pictures.shape[1]
        low, high = np.array(window[::2], np.float32), np.array(window[1::2], np.float32)
        along, down = _cosines(side) @ sample_matrix(low, high, side)
        return self._describe(down, along, 0)

    def _describe(self, down: Floats, along: Floats, orientation: int) -> Floats:
        found = np.empty((len(self.pictures), _FREQUENCIES**2), np.float32)
        for batch in _batches(len(self.pictures)):
            spectra = _spectra(self.pictures[batch], down, along)
            weighted = _orient_spectra(_unit(spectra * self.basis.weights), orientation) - self.basis.mean
            found[batch] = _unit(weighted).reshape(len(weighted), -1)
        return found


def _cosines(side: int) -> Floats:
    """Return the first rows of the matrix of the discrete cosine transform, shape (_FREQUENCIES, side)."""
    return (scipy.fft.dct(np.eye(side), axis=0, norm="ortho")[:_FREQUENCIES] / side).astype(np.float32)


def _spectra(pictures: NDArray[np.uint8], down: Floats, along: Floats) -> Floats:
    return down @ pictures.astype(np.float32) @ along.T


def _orient_spectra(spectra: Floats, orientation: int) -> Floats:
    signs = np.where(np.arange(_FREQUENCIES) % 2, np.float32(-1), np.float32(1))
    turned = spectra.transpose(0, 2, 1) if orientation & 4 else spectra
    turned = turned * signs if orientation & 1 else turned
    return turned * signs[:, None] if orientation & 2 else turned


def _unit(spectra: Floats) -> Floats:
    """Return vectors of unit length, without the mean grey level; a picture without detail stays 0."""
    spectra[:, 0, 0] = 0
    lengths = np.sqrt((spectra**2).sum((1, 2), keepdims=True))
    return spectra / np.maximum(lengths, 1e-9)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, count, _BATCH))
