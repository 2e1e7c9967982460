"""Finds the reasons for which a trained network must not become live by itself, whatever it is compared with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from pipeline.data.split import Manifest
from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.metrics.table import Predictions, Values, Weights, find_metric, resample_recalls
from pipeline.recipe.training_settings import Train
from pipeline.training.optimization import make_loss


def find_faults(
    predictions: Predictions,
    manifest: Manifest,
    labels: Sequence[str],
    curves: Sequence[Mapping[str, Any]],
    settings: Train,
    *,
    penalty: float = 0.0,
) -> list[str]:
    """Return why a network must not become live by itself, in words; nothing for one that beats chance.

    Args:
        predictions: of the manifest's test images, in order.
        manifest: of the run.
        labels: class names; position is the class index.
        curves: the record of each epoch, with loss and val_loss.
        settings: of the training, for the loss of a constant predictor.
        penalty: of the network's weights (Keras's regularizers), which its losses include.
    """
    groups = [row.group for row in manifest.of("test")]
    found = [
        _find_divergence(curves, _constant_losses(manifest, labels, settings), penalty),
        _find_constant_answer(predictions, labels),
        find_chance(predictions, groups),
    ]
    return [fault for fault in found if fault is not None]


def find_chance(predictions: Predictions, groups: Sequence[str]) -> str | None:
    """Compare the interval of balanced accuracy with guessing: 1 / classes of the test images."""
    bootstrap = GroupBootstrap(groups)
    num_classes = len(np.unique(predictions.targets))
    guessing = 1 / num_classes
    interval = bootstrap.interval(_CautiousAccuracy(predictions, bootstrap))
    if interval is not None and interval[0] > guessing:
        return None
    value = find_metric("balanced_accuracy").compute(predictions)
    shown = "no interval" if interval is None else f"interval [{interval[0]:.4f}, {interval[1]:.4f}]"
    images = len(predictions.targets)
    return (
        f"balanced accuracy {value:.4f} is not above guessing: {shown} on {images} test images in "
        f"{bootstrap.num_groups} groups, guessing 1/{num_classes} = {guessing:.4f}"
    )


class _CautiousAccuracy:
    """Balanced accuracy of resamples, in which a class of a few groups is not right for ever.

    Resampling a class whose n groups are all right gives one value. Its recall is drawn from the beta distribution of
    Clopper and Pearson's limit in its place; that of a class whose groups are all wrong stays 0. Where all images are
    right the value is 1, and the interval is the exact one over all groups.

    Args:
        predictions: of the test images.
        bootstrap: over the same images.
    """

    def __init__(self, predictions: Predictions, bootstrap: GroupBootstrap) -> None:
        self._predictions = predictions
        self._rng = np.random.default_rng(0)
        hits = predictions.hits
        self._num_right: dict[int, int] = {}  # groups of the classes that are all right, or all wrong
        for index in np.unique(predictions.targets):
            members = predictions.targets == index
            if not hits.all() and hits[members].all() == hits[members].any():
                self._num_right[int(index)] = bootstrap.count(members) if hits[members].all() else 0

    def __call__(self, weights: Weights) -> Values:
        recalls = resample_recalls(self._predictions, weights)
        for index, groups in self._num_right.items():
            recalls[:, index] = self._rng.beta(groups, 1, len(recalls)) if groups else 0
        return np.asarray(np.nanmean(recalls, axis=1))


def _find_constant_answer(predictions: Predictions, labels: Sequence[str]) -> str | None:
    answers = np.unique(predictions.probabilities.argmax(axis=1))
    if len(answers) > 1:
        return None
    return f"the answer is constant: {labels[int(answers[0])]} for each of {len(predictions.targets)} test images"


def _find_divergence(
    curves: Sequence[Mapping[str, Any]], constant_losses: tuple[float, float], penalty: float
) -> str | None:
    """Compare the losses of the last epoch with those of a predictor that gives every image the classes' shares."""
    if not curves:
        return None
    broken = [row for row in curves if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"]))]
    if broken:
        row = broken[0]
        return f"the loss diverged: {row['loss']} in training and {row['val_loss']} in validation, epoch {row['epoch']}"
    loss, val_loss = curves[-1]["loss"], curves[-1]["val_loss"]
    constant, val_constant = (value + penalty for value in constant_losses)
    if loss <= constant or val_loss <= val_constant:
        return None
    return (
        f"the loss diverged: {loss:.4g} in training and {val_loss:.4g} in validation after the last epoch; a constant "
        f"answer has {constant:.4g} and {val_constant:.4g}"
    )


def _constant_losses(manifest: Manifest, labels: Sequence[str], settings: Train) -> tuple[float, float]:
    """Return the loss of a constant answer, the classes' shares, on training images and on validation ones."""
    smoothing, num_classes = settings.label_smoothing, len(labels)
    training, validation = (_shares(manifest, labels, split) for split in ("train", "val"))
    is_balanced = settings.class_weight == "balanced"
    answer = np.full(num_classes, 1 / num_classes) if is_balanced else training
    answer = (1 - smoothing) * answer + smoothing / num_classes
    compare = keras.losses.get(make_loss(settings, num_classes))
    losses = np.asarray(compare(np.arange(num_classes), np.tile(answer.astype(np.float32), (num_classes, 1))))
    return float((answer if is_balanced else training) @ losses), float(validation @ losses)


def _shares(manifest: Manifest, labels: Sequence[str], split: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    counts = Counter(row.label for row in manifest.of(split))
    return np.array([counts[label] for label in labels], np.float64) / max(1, counts.total())
