"""Measures a set of predictions, overall and by class, with intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.ranking import Ranking
from pipeline.metrics.document import MAX_WHOLE, pack_counts
from pipeline.metrics.table import METRICS, Metric, Predictions

# Above, a thousand draws for every class take minutes; the AUC then comes without its interval.
MAX_BOOTSTRAP_CELLS = 2_000_000


def measure(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    intervals: bool = True,
) -> dict[str, Any]:
    """Return the metrics of a set of predictions.

    Args:
        probabilities: shape (images, classes), rows summing to 1.
        targets: class indices, shape (images,).
        labels: class names; position is the class index.
        groups: what each image belongs to, such as a patient; None: every image stands for itself.
        seed: of the bootstrap.
        intervals: False leaves them out (None), for a caller that wants one number fast.

    Returns:
        images, groups, every metric of the table (accuracy with accuracy_interval), confusion (rows are true classes,
        columns predicted; as `pack_counts` gives counts), confusion_rates (of each row; null for a class without
        images, null as a whole where confusion has cells alone) and, per class,
        precision, recall, f1, support, groups (that have an image of the class), one-vs-rest auc with auc_interval and
        average_precision. A value that cannot be computed is None; an interval is [low, high] at 95 %.
    """
    predictions = Predictions(probabilities, targets)
    confusion = predictions.confusion
    bootstrap = GroupBootstrap([str(i) for i in range(len(targets))] if groups is None else groups, seed=seed)
    fits = intervals and probabilities.size <= MAX_BOOTSTRAP_CELLS
    classes = {
        label: _measure_class(confusion, i)
        | {"groups": bootstrap.count(targets == i)}
        | measure_ranking(probabilities[:, i], targets == i, bootstrap if fits else None)
        for i, label in enumerate(labels)
    }
    return {
        "images": len(targets),
        "groups": bootstrap.num_groups,
        **_measure_overall(predictions, bootstrap if intervals else None),
        "confusion": pack_counts(confusion),
        "confusion_rates": _rates(confusion) if len(labels) <= MAX_WHOLE else None,
        "classes": classes,
    }


def _rates(confusion: NDArray[np.int64]) -> list[list[float] | None]:
    return [[n / sum(row) for n in row] if sum(row) else None for row in confusion.tolist()]


def measure_ranking(
    scores: NDArray[Any], positive: NDArray[np.bool_], bootstrap: GroupBootstrap | None
) -> dict[str, Any]:
    """Return auc, auc_interval and average_precision of one class against the rest; None where they do not exist.

    Args:
        scores: the class's probability, shape (images,).
        positive: bool, shape (images,).
        bootstrap: over the same images; None leaves the interval out.
    """
    if positive.all() or not positive.any():
        return {"auc": None, "auc_interval": None, "average_precision": None}
    from sklearn.metrics import average_precision_score

    ranking = Ranking(scores, positive)
    return {
        "auc": float(ranking.auc(np.ones((1, len(scores)), np.float32))[0]),
        "auc_interval": bootstrap.interval(ranking.auc, trials=bootstrap.count_pairs(positive)) if bootstrap else None,
        "average_precision": float(average_precision_score(positive, scores)),
    }


def _measure_overall(predictions: Predictions, bootstrap: GroupBootstrap | None) -> dict[str, Any]:
    """Return every metric of the table, and the intervals of those that have one; None without a bootstrap."""
    measured: dict[str, Any] = {}
    for metric in METRICS:
        measured[metric.name] = metric.compute(predictions)
        if metric.per_image is not None:
            measured[f"{metric.name}_interval"] = _interval(metric, predictions, bootstrap)
    return measured


def _interval(metric: Metric, predictions: Predictions, bootstrap: GroupBootstrap | None) -> list[float] | None:
    if bootstrap is None or metric.per_image is None:
        return None
    values = metric.per_image(predictions)
    return bootstrap.interval(lambda weights: (weights @ values) / weights.sum(axis=1))


def _measure_class(confusion: NDArray[np.int64], index: int) -> dict[str, Any]:
    hits, support = int(confusion[index, index]), int(confusion[index].sum())
    called = int(confusion[:, index].sum())
    return {
        "precision": hits / called if called else None,
        "recall": hits / support if support else None,
        "f1": 2 * hits / (called + support) if called + support else None,
        "support": support,
    }
