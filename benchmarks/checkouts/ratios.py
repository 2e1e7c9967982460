"""Ratios of paired windows, with intervals."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_DRAWS = 4000
_SEED = 7


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval of 95 %.

    Attributes:
        value: of all pairs.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def rounded(self, digits: int) -> dict[str, float]:
        """Return value, low and high as a dictionary."""
        return {
            "value": round(self.value, digits),
            "low": round(self.low, digits),
            "high": round(self.high, digits),
        }


def ratio_of_pairs(pairs: Sequence[tuple[float, float]]) -> Interval:
    """Return the geometric mean of second over first.

    Args:
        pairs: positive numbers of two neighbouring windows.
    """
    found = bootstrap_mean([math.log(second / first) for first, second in pairs])
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def difference_of_pairs(pairs: Sequence[tuple[float, float]]) -> Interval:
    """Return the median of second less first."""
    return _bootstrap([second - first for first, second in pairs], statistics.median)


def bootstrap_mean(values: Sequence[float]) -> Interval:
    """Return the mean of values."""
    return _bootstrap(values, statistics.fmean)


def _bootstrap(values: Sequence[float], statistic: Callable[[Sequence[float]], float]) -> Interval:
    draw = random.Random(_SEED)
    means = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(_DRAWS))
    return Interval(statistic(values), means[int(0.025 * _DRAWS)], means[int(0.975 * _DRAWS) - 1])
