"""Computes ROC and precision-recall measures for many weightings of the images at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_CURVE_POINTS = 200


class Ranking:
    """Images sorted by score, best first; images of equal score count as one step.

    Args:
        scores: shape (images,); higher means more likely positive.
        positive: bool, shape (images,).
    """

    def __init__(self, scores: NDArray[Any], positive: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        self._starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        self._positive = positive[self._order].astype(np.float32)
        self._num_images = len(scores)

    def auc(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the area under the ROC curve for each row of weights; NaN without positives or without negatives.

        Args:
            weights: float32, shape (rows, images).
        """
        positives, negatives = self._steps(weights)
        below = negatives.sum(axis=1, keepdims=True, dtype=np.float64) - np.cumsum(negatives, axis=1) + negatives / 2
        pairs = positives.sum(axis=1, dtype=np.float64) * negatives.sum(axis=1, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray((positives * below).sum(axis=1) / np.where(pairs > 0, pairs, np.nan))

    def sensitivity_at(self, weights: NDArray[np.float32], specificity: float) -> NDArray[np.float64]:
        """Return the best sensitivity among thresholds that keep a specificity, for each row of weights.

        Args:
            weights: float32, shape (rows, images).
            specificity: at least this; thresholds are those between images, never interpolated.
        """
        positives, negatives = self._steps(weights)
        called = np.cumsum(negatives, axis=1)
        all_negatives = called[:, -1:]
        # A hundredth of an image: float32 sums of whole numbers are exact, their product with 0.05 is not.
        kept = called <= (1 - specificity) * all_negatives + 0.01
        found = np.where(kept, np.cumsum(positives, axis=1), 0).max(axis=1)
        total = positives.sum(axis=1, dtype=np.float64)
        valid = (total > 0) & (all_negatives[:, 0] > 0)
        return np.asarray(np.divide(found, total, out=np.full(len(total), np.nan), where=valid), np.float64)

    def _steps(self, weights: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the weight of positives and of negatives at each distinct score, shape (rows, scores)."""
        ranked = weights[:, self._order]
        positives = ranked * self._positive
        negatives = ranked - positives
        if len(self._starts) < self._num_images:
            positives = np.add.reduceat(positives, self._starts, axis=1)
            negatives = np.add.reduceat(negatives, self._starts, axis=1)
        return positives, negatives


def draw_curves(scores: NDArray[Any], positive: NDArray[np.bool_]) -> dict[str, list[list[float]]] | None:
    """Return the points of the ROC curve (1 - specificity, sensitivity) and of precision-recall (recall, precision).

    Args:
        scores: shape (images,).
        positive: bool, shape (images,).

    Returns:
        At most 200 points each; None without positives or without negatives.
    """
    if positive.all() or not positive.any():
        return None
    from sklearn.metrics import precision_recall_curve, roc_curve

    false_positive, true_positive, _ = roc_curve(positive, scores)
    precision, recall, _ = precision_recall_curve(positive, scores)
    return {
        "roc": _thinned(false_positive, true_positive),
        "precision_recall": _thinned(recall[::-1], precision[::-1]),
    }


def _thinned(x: NDArray[Any], y: NDArray[Any]) -> list[list[float]]:
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_CURVE_POINTS)).round().astype(int))
    return [[round(float(a), 5), round(float(b), 5)] for a, b in zip(x[chosen], y[chosen], strict=True)]
