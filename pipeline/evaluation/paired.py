"""Compares two sets of predictions of the same images: the difference of a metric with its paired interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.metrics.table import Metric, Predictions

_SLACK = 1e-9  # forgives the last bits of a difference that is exactly the margin
_NEGLIGIBLE = 1e-4  # engines may stray by as much in a probability: of equal versions one would always be "worse"

# worse: the interval lies below 0. not worse: it lies above the margin. undecided: neither.
Evidence = Literal["worse", "not worse", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """Two versions on the same images.

    Attributes:
        before: the earlier version's metric.
        after: the new version's.
        images: compared.
        groups: that the images belong to.
        margin: how much worse the new version may be.
        gain: how much better the new version is, in the metric's unit; negative if it is worse.
        interval: of the gain, 95 %, over groups; None where there are fewer than two.
    """

    before: float
    after: float
    images: int
    groups: int
    margin: float
    gain: float
    interval: tuple[float, float] | None

    @property
    def evidence(self) -> Evidence:
        """The interval's verdict."""
        if self.interval is None:
            return "undecided"
        low, high = self.interval
        if high < -_NEGLIGIBLE:
            return "worse"
        return "not worse" if low > -self.margin else "undecided"

    @property
    def passes(self) -> bool:
        """True if the new version may replace the earlier one; the difference itself decides what the interval cannot.

        A metric that is NaN passes nothing.
        """
        if self.evidence == "undecided":
            return self.gain >= -self.margin - _SLACK
        return self.evidence == "not worse"


def compare_predictions(
    before: Predictions, after: Predictions, groups: Sequence[str], *, metric: Metric, margin: float
) -> Comparison:
    """Compare two sets of predictions of the same images, in the same order of images and of classes.

    Args:
        before: the earlier version's.
        after: the new version's.
        groups: of the images, such as patients.
        metric: of the gate.
        margin: how much worse the new version may be, in the metric's unit.
    """
    sign = -1.0 if metric.lower_is_better else 1.0
    values = metric.compute(before), metric.compute(after)

    def gain(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        return sign * (metric.compute_resampled(after, weights) - metric.compute_resampled(before, weights))

    bootstrap = GroupBootstrap(groups)
    span = metric.bounds[1] - metric.bounds[0]
    interval = bootstrap.interval(gain, bounds=(-span, span)) if np.isfinite(values).all() else None
    return Comparison(
        before=values[0],
        after=values[1],
        images=len(before.targets),
        groups=bootstrap.num_groups,
        margin=margin,
        gain=sign * (values[1] - values[0]),
        interval=None if interval is None else (interval[0], interval[1]),
    )
