"""Measures how far an image is from a model's training images: a few statistics of its pixels, and a distance.

The rule is made for pictures that have nothing to do with the model (a selfie, a black frame, noise), not for rare or
pathological ones of the right kind. It looks at a fixed grid of points, so it costs the same for every input size.
`pipeline/evaluation/novelty.py` fits it to training images; the gateway applies it to every image. Its JSON key is
`baseline`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError

RULE = 1  # version of the statistics below
WARNING = "unlike_training_images"
_GRID = 32  # points along each side; smaller images are looked at whole
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Whose variance is measured: each channel's, and that of the differences between neighbouring ones.
_DIRECTIONS = {
    1: np.ones((1, 1), np.float32),
    3: np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 0], [0, 1, -1]], np.float32),
}
_SHAPE_STATISTICS = ("fine_contrast", "coarse_contrast", "centre", "corners", "top", "left")
STATISTICS: Mapping[int, tuple[str, ...]] = {
    1: ("mean", "spread", *_SHAPE_STATISTICS),
    3: (
        *("red_mean", "green_mean", "blue_mean", "red_spread", "green_spread", "blue_spread"),
        *("red_green_spread", "green_blue_spread"),
        *_SHAPE_STATISTICS,
    ),
}


@dataclass(frozen=True)
class NoveltyCheck:
    """The distribution of the training images' statistics, and the distance from which an image is novel.

    Attributes:
        center: float32, shape (statistics,).
        whitening: float32, shape (statistics, statistics); deviations times it have about unit covariance.
        threshold: distance above which a picture is unlike the training images.
    """

    center: NDArray[np.float32]
    whitening: NDArray[np.float32]
    threshold: float

    def distances(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how far each image is from the training images; about 1 for most of them.

        Args:
            images: uint8, shape (batch, height, width, channels), prepared as the contract says.
        """
        return self.distances_of(measure_images(images))

    def distances_of(self, statistics: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the distances of measured images, float32, shape (batch,)."""
        deviations = (statistics - self.center) @ self.whitening
        return np.asarray(np.sqrt(np.einsum("bk,bk->b", deviations, deviations) / len(self.center)))

    def find_unlike(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which images are unlike the training images, bool, shape (batch,); arguments as `distances`."""
        return np.asarray(self.distances(images) > self.threshold)

    def document(self) -> dict[str, Any]:
        """Return the contract's JSON, with six significant digits."""
        return {
            "rule": RULE,
            "center": _rounded(self.center),
            "whitening": [_rounded(row) for row in self.whitening],
            "threshold": float(f"{self.threshold:.6g}"),
        }


def read_novelty_check(document: object, channels: int) -> NoveltyCheck | None:
    """Return the novelty check of a contract; None without one, or with a rule that this Fovea does not know.

    Raises:
        ContractError: if it is by this rule, but not complete.
    """
    if document is None or not isinstance(document, Mapping) or document.get("rule") != RULE:
        return None
    size = len(STATISTICS[channels])
    try:
        center = np.asarray(document["center"], np.float32)
        whitening = np.asarray(document["whitening"], np.float32)
        threshold = float(document["threshold"])
    except (KeyError, TypeError, ValueError) as err:
        raise ContractError("baseline: expected numbers for center, whitening and threshold") from err
    if center.shape != (size,) or whitening.shape != (size, size):
        raise ContractError(
            f"baseline: expected {size} statistics. Received: center {center.shape}, whitening {whitening.shape}"
        )
    if not (np.isfinite(center).all() and np.isfinite(whitening).all() and threshold > 0):
        raise ContractError(
            f"baseline: expected finite numbers and a positive threshold. Received: threshold {threshold}"
        )
    return NoveltyCheck(center, whitening, threshold)


def measure_images(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the statistics of prepared images.

    Args:
        images: uint8, shape (batch, height, width, channels), 1 or 3 channels.

    Returns:
        float32, shape (batch, statistics), in the order of `STATISTICS[channels]`. Means and differences of brightness
        are in [-1, 1]; spreads and contrasts are logarithms of grey levels.
    """
    batch, height, width, channels = images.shape
    places, rows, columns = _grid(height, width)
    points = images.reshape(batch, height * width, channels).take(places, axis=1).astype(np.float32)
    colors = points[:, : rows * columns]
    mean = colors.mean(axis=1)
    # Every spread, also that of a difference of channels, follows from the covariance of the channels.
    covariance = colors.transpose(0, 2, 1) @ colors / (rows * columns) - mean[:, :, None] * mean[:, None, :]
    directions = _DIRECTIONS[channels]
    variances = np.einsum("bij,ki,kj->bk", covariance, directions, directions)
    light = points @ _LUMA if channels == 3 else points[..., 0]
    shape = _measure_shape(light[:, : rows * columns], light[:, rows * columns :], rows, columns)
    spreads = np.log1p(np.sqrt(np.maximum(variances, 0)))
    return np.concatenate([mean / 255, spreads, shape], axis=1, dtype=np.float32)


def _measure_shape(
    light: NDArray[np.float32], beside: NDArray[np.float32], rows: int, columns: int
) -> NDArray[np.float32]:
    """Return how brightness changes over short and long ways, and where in the picture it is.

    Args:
        light: float32, shape (batch, rows * columns), 0-255.
        beside: the same one pixel further down and right.
        rows: of the grid.
        columns: of the grid.
    """
    grid = light.reshape(-1, rows, columns)
    fine = np.abs(beside - light).mean(axis=1)
    coarse = np.abs(grid[:, :, 1:] - grid[:, :, :-1]).sum(axis=(1, 2)) / max(1, rows * (columns - 1))
    return np.concatenate([np.log1p([fine, coarse]).T, light @ _where(rows, columns)], axis=1)


@functools.lru_cache(maxsize=64)
def _grid(height: int, width: int) -> tuple[NDArray[np.intp], int, int]:
    """Return flat places of a grid of points, then of each one's lower right neighbour; and the grid's size."""
    rows, columns = (
        (np.arange(count) * size + size // 2) // count for size in (height, width) for count in [min(_GRID, size)]
    )
    points = rows[:, None] * width + columns
    beside = np.minimum(rows + 1, height - 1)[:, None] * width + np.minimum(columns + 1, width - 1)
    return np.concatenate([points.ravel(), beside.ravel()]), len(rows), len(columns)


@functools.lru_cache(maxsize=64)
def _where(rows: int, columns: int) -> NDArray[np.float32]:
    """Return weights, shape (points, 4): centre, corners, top and left half, each against the whole, 0-255 to 0-1."""
    y = (np.arange(rows)[:, None] + 0.5) / rows
    x = (np.arange(columns)[None, :] + 0.5) / columns
    far_y, far_x = np.abs(y - 0.5), np.abs(x - 0.5)
    whole = np.ones((rows, columns))
    masks = [
        (far_y <= 0.25) & (far_x <= 0.25),
        (far_y >= 0.375) & (far_x >= 0.375),
        (y < 0.5) * whole,
        (x < 0.5) * whole,
    ]
    shares = [mask / max(1, mask.sum()) - whole / whole.size for mask in masks]
    return np.asarray(np.stack([share.ravel() for share in shares], axis=1) / 255, np.float32)


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
