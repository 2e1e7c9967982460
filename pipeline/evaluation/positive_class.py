"""Measures a declared positive class against the rest, and predictions of ordered classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.measure import measure_ranking
from pipeline.evaluation.ranking import Ranking
from pipeline.recipe.evaluate_settings import Evaluate

SPECIFICITIES = (0.95, 0.85)
_PARTIAL_SPECIFICITY = 0.9


def measure_positive_class(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    settings: Evaluate,
    bootstrap: GroupBootstrap,
) -> dict[str, Any] | None:
    """Measure a declared positive class and declared order.

    Args:
        probabilities: shape (images, classes).
        targets: class indices, shape (images,).
        labels: class names; position is the class index.
        settings: `positive`, `uncertain` and `order`.
        bootstrap: over the same images.

    Returns:
        None when nothing is declared. Else positive, uncertain, readings (one, or two with an uncertain class: counted
        as negative, counted as positive) and, with an order, quadratic_kappa.
    """
    found = settings.found_class
    if found is None:
        return None
    readings = [_read(probabilities, targets, labels, [found], bootstrap)]
    if settings.uncertain is not None:
        readings.append(_read(probabilities, targets, labels, [found, settings.uncertain], bootstrap))
    kappa = _quadratic_kappa(probabilities, targets, labels, settings.order) if settings.order else None
    return {
        "positive": found,
        "uncertain": settings.uncertain,
        "order": list(settings.order) if settings.order else None,
        "readings": readings,
        "quadratic_kappa": kappa,
    }


def _read(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    counted: Sequence[str],
    bootstrap: GroupBootstrap,
) -> dict[str, Any]:
    """Measure the classes in `counted`, together, against the rest; their probabilities add up."""
    indices = [labels.index(label) for label in counted]
    positive = np.isin(targets, indices)
    scores = probabilities[:, indices].sum(axis=1)
    called = np.isin(probabilities.argmax(axis=1), indices)
    both = bool(positive.any() and not positive.all())
    return {
        "counted_as_positive": list(counted),
        "positives": int(positive.sum()),
        "negatives": int((~positive).sum()),
        "positive_groups": bootstrap.count(positive),
        "negative_groups": bootstrap.count(~positive),
        "sensitivity": float(called[positive].mean()) if positive.any() else None,
        "specificity": float((~called[~positive]).mean()) if (~positive).any() else None,
        **measure_ranking(scores, positive, bootstrap),
        "partial_auc": _partial_auc(scores, positive) if both else None,
        "sensitivity_at_specificity": _sensitivities(scores, positive, bootstrap) if both else [],
    }


def _sensitivities(
    scores: NDArray[Any], positive: NDArray[np.bool_], bootstrap: GroupBootstrap
) -> list[dict[str, Any]]:
    ranking = Ranking(scores, positive)
    everything = np.ones((1, len(scores)), np.float32)
    return [
        {
            "specificity": wanted,
            "sensitivity": float(ranking.sensitivity_at(everything, wanted)[0]),
            "sensitivity_interval": bootstrap.interval(
                lambda weights, wanted=wanted: ranking.sensitivity_at(weights, wanted),  # type: ignore[misc]
                trials=bootstrap.count(positive),
            ),
        }
        for wanted in SPECIFICITIES
    ]


def _partial_auc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the AUC at specificity 0.9 to 1, standardised by McClish: 0.5 is chance, 1 is perfect."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores, max_fpr=1 - _PARTIAL_SPECIFICITY))


def _quadratic_kappa(
    probabilities: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str], order: Sequence[str]
) -> float | None:
    """Return Cohen's kappa with quadratic weights; None when all images and all predictions are of one class."""
    from sklearn.metrics import cohen_kappa_score

    rank = np.array([order.index(label) for label in labels])
    true, called = rank[targets], rank[probabilities.argmax(axis=1)]
    if len(np.union1d(true, called)) < 2:
        return None
    return float(cohen_kappa_score(true, called, weights="quadratic", labels=list(range(len(order)))))
