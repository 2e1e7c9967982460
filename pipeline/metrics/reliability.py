"""Compares predicted probabilities with how often they are right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # Guo et al. 2017


def reliability(probabilities: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, Any]:
    """Compare the predicted class's probability with how often it is right, in BINS bins of equal width.

    Args:
        probabilities: shape (images, classes).
        targets: class indices, shape (images,).

    Returns:
        `expected_calibration_error`, the mean gap weighted by images, in [0, 1], and `bins`: confidence (mean
        probability), accuracy and images of each bin that has any.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        {
            "confidence": float(confidence[place == i].mean()),
            "accuracy": float(right[place == i].mean()),
            "images": int((place == i).sum()),
        }
        for i in np.unique(place)
    ]
    gaps = sum(abs(found["confidence"] - found["accuracy"]) * found["images"] for found in bins)
    return {"expected_calibration_error": gaps / len(targets), "bins": bins}
