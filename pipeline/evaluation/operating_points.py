"""Thresholds: chosen on validation images, reported on test images, kept in the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.metrics.table import Predictions
from pipeline.recipe.evaluate_settings import OperatingPointRule

_FEW = 20  # images of the class, or of the others, below which a chosen threshold is mostly chance


@dataclass(frozen=True, slots=True)
class ChosenPoint:
    """A threshold with its rates.

    Attributes:
        rule: of the recipe.
        threshold: probability from which on the class is called.
        validation: sensitivity and specificity where it was chosen.
        test: sensitivity and specificity on the test images; None without positives or negatives there.
        groups: of test images of the class, and of the others.
    """

    rule: OperatingPointRule
    threshold: float
    validation: tuple[float, float]
    test: tuple[float, float] | None
    groups: tuple[int, int]

    def document(self) -> dict[str, Any]:
        """Return what metrics.json holds; the contract takes label, threshold, sensitivity and specificity."""
        sensitivity, specificity = self.test or (None, None)
        return {
            "label": self.rule.label,
            "wanted": self.rule.model_dump(exclude={"label"}, exclude_none=True),
            "threshold": self.threshold,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "positive_groups": self.groups[0],
            "negative_groups": self.groups[1],
            "validation": {"sensitivity": self.validation[0], "specificity": self.validation[1]},
        }


def choose_points(
    rules: Sequence[OperatingPointRule],
    labels: Sequence[str],
    *,
    validation: Predictions,
    test: Predictions,
    groups: GroupBootstrap,
) -> tuple[list[ChosenPoint], list[str]]:
    """Choose a threshold for every rule.

    Args:
        rules: from the recipe.
        labels: class names; position is the class index.
        validation: where thresholds are chosen.
        test: where they are reported.
        groups: of the test images.

    Returns:
        The points, and a warning for each that rests on few images or cannot be chosen.
    """
    points, warnings = [], []
    for rule in rules:
        index = labels.index(rule.label)
        scores, positive = validation.probabilities[:, index], validation.targets == index
        fewest = int(min(positive.sum(), (~positive).sum()))
        threshold = choose_threshold(scores, positive, rule) if fewest else None
        if threshold is None:
            warnings.append(f"No threshold for {rule.label} on {len(scores)} validation images reaches the target.")
            continue
        if fewest < _FEW:
            warnings.append(
                f"The threshold for {rule.label} rests on {int(positive.sum())} validation images of the class and "
                f"{int((~positive).sum())} others: expect other values elsewhere."
            )
        wanted = test.targets == index
        reached = apply_threshold(test.probabilities[:, index], wanted, threshold)
        chosen = apply_threshold(scores, positive, threshold)
        if chosen is not None:
            behind = groups.count(wanted), groups.count(~wanted)
            points.append(ChosenPoint(rule, threshold, chosen, reached, behind))
    return points, warnings


def choose_threshold(scores: NDArray[Any], positive: NDArray[np.bool_], rule: OperatingPointRule) -> float | None:
    """Return the threshold that meets a rule with the least loss on the other side; None if there is none in [0, 1].

    Thresholds lie halfway between neighbouring scores, so that the rounding of another engine moves no image across.

    Args:
        scores: the class's probability, shape (images,), with at least one positive and one negative.
        positive: bool, shape (images,).
        rule: the sensitivity or specificity wanted.
    """
    distinct = np.unique(scores.astype(np.float64))
    edges = np.concatenate([[0.0], distinct, [1.0]])
    candidates = (edges[1:] + edges[:-1]) / 2
    # p >= 1 still calls an image of probability 1: a threshold above every score then does not exist.
    candidates = candidates[:-1] if distinct[-1] >= 1 else candidates
    found = 1 - np.searchsorted(np.sort(scores[positive]), candidates, side="left") / positive.sum()
    spared = np.searchsorted(np.sort(scores[~positive]), candidates, side="left") / (~positive).sum()
    if rule.sensitivity is not None:
        good = candidates[found >= rule.sensitivity - 1e-9]
        return float(good[-1]) if len(good) else None
    good = candidates[spared >= (rule.specificity or 0.0) - 1e-9]
    return float(good[0]) if len(good) else None


def apply_threshold(scores: NDArray[Any], positive: NDArray[np.bool_], threshold: float) -> tuple[float, float] | None:
    """Return (sensitivity, specificity) of calling every image whose score is at least the threshold."""
    if positive.all() or not positive.any():
        return None
    called = scores >= threshold
    return float(called[positive].mean()), float((~called[~positive]).mean())
