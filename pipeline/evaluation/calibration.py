"""Fits the temperature that makes probabilities as high as they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

TEMPERATURES = (0.5, 10.0)
MIN_CALIBRATION_IMAGES = 50  # below, a fitted temperature says more about the sample than about the model


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
