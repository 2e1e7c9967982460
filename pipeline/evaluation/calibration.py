"""Whether a probability of 0.8 is right eight times in ten, and the temperature that makes it so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

TEMPERATURES = (0.5, 10.0)
MIN_CALIBRATION_IMAGES = 50  # below, a fitted temperature says more about the sample than about the model
BINS = 15  # Guo et al. 2017


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return probabilities, float32, rows summing to 1."""
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Return the temperature that minimises the negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    Args:
        logits: of the validation images, shape (images, classes).
        targets: class indices, shape (images,).

    Returns:
        Within TEMPERATURES; 1.0 for fewer than MIN_CALIBRATION_IMAGES images.
    """
    if len(targets) < MIN_CALIBRATION_IMAGES:
        return 1.0

    def loss(log_temperature: float) -> float:
        chosen = softmax(logits, float(np.exp(log_temperature)))[np.arange(len(targets)), targets]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


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
