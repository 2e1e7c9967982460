"""Probabilities of a set of images, the temperature that calibrates them, and what they are worth."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from pipeline.network import LOGITS, Classifier, preprocess
from pipeline.pixels import Pixels
from pipeline.split import ManifestRow

TEMPERATURES = (0.5, 10.0)
MIN_CALIBRATION_IMAGES = 50  # below, a fitted temperature says more about the sample than about the model
_BATCH = 32


def compute_logits(classifier: Classifier, rows: Sequence[ManifestRow], pixels: Pixels) -> NDArray[np.float32]:
    """Return the logits of images in order, float32, shape (images, classes)."""
    model = keras.Model(classifier.model.input, classifier.model.get_layer(LOGITS).output)
    paths = [row.path for row in rows]
    parts = [
        np.asarray(model(preprocess(batch.astype(np.float32), classifier.preprocessing), training=False))
        for batch in pixels.batches(paths, _BATCH)
    ]
    return np.concatenate(parts)


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


def targets_of(rows: Sequence[ManifestRow], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return class indices, shape (images,)."""
    return np.array([labels.index(row.label) for row in rows], np.int64)


def measure(probabilities: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Return what a set of predictions is worth.

    Args:
        probabilities: shape (images, classes).
        targets: class indices, shape (images,).
        labels: class names.

    Returns:
        images, accuracy, balanced_accuracy (over the classes that occur), brier (multi-class, 0 to 2), log_loss,
        confusion (rows are true classes, columns predicted) and per class precision, recall, f1, support; a ratio
        without a denominator is None.
    """
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    classes = {label: _measure_class(confusion, i) for i, label in enumerate(labels)}
    recalls = [c["recall"] for c in classes.values() if c["recall"] is not None]
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return {
        "images": len(targets),
        "accuracy": float((predicted == targets).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "brier": float(((probabilities - np.eye(len(labels))[targets]) ** 2).sum(axis=1).mean()),
        "log_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
        "confusion": confusion.tolist(),
        "classes": classes,
    }


def write_predictions(
    path: Path, rows: Sequence[ManifestRow], probabilities: NDArray[np.float32], labels: Sequence[str]
) -> None:
    """Write one CSV line an image: path, label, predicted and every class's probability."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", *(f"probability_{label}" for label in labels)])
        for row, values in zip(rows, probabilities, strict=True):
            writer.writerow([row.path, row.label, labels[int(values.argmax())], *(str(v) for v in values)])


def _measure_class(confusion: NDArray[np.int64], index: int) -> dict[str, Any]:
    hits, support = int(confusion[index, index]), int(confusion[index].sum())
    called = int(confusion[:, index].sum())
    return {
        "precision": hits / called if called else None,
        "recall": hits / support if support else None,
        "f1": 2 * hits / (called + support) if called + support else None,
        "support": support,
    }
