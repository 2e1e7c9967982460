"""95 % intervals by resampling groups: images of one patient are not independent, patients are.

Where every draw gives the same value, the draws have no spread and the interval is an exact one over groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_BLOCK_NUMBERS = 500_000  # weights at once: 20 MB with the draws that they are counted from
_NO_SPREAD = 1e-6  # width of an interval whose draws agree; float32 weights round


class GroupBootstrap:
    """Draws groups with replacement and gives each image the number of times that its group was drawn.

    Args:
        groups: the group of each image, such as a patient.
        seed: of the draws; every statistic sees the same ones.
        resamples: how many times to draw.
    """

    def __init__(self, groups: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES) -> None:
        names, self._group_of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
        self.num_groups = len(names)
        self._seed = seed
        self._resamples = resamples

    def weights(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks of weights, float32, shape (resamples of this block, images)."""
        rng = np.random.default_rng(self._seed)
        block = max(1, _BLOCK_NUMBERS // max(1, len(self._group_of)))
        for start in range(0, self._resamples, block):
            rows = min(block, self._resamples - start)
            drawn = rng.integers(0, self.num_groups, (rows, self.num_groups))
            drawn += np.arange(rows)[:, None] * self.num_groups
            counts = np.bincount(drawn.ravel(), minlength=rows * self.num_groups).reshape(rows, self.num_groups)
            yield counts.astype(np.float32)[:, self._group_of]

    def count(self, chosen: NDArray[np.bool_]) -> int:
        """Return the number of groups that have a chosen image; `chosen` is bool, shape (images,)."""
        return len(np.unique(self._group_of[chosen]))

    def count_pairs(self, positive: NDArray[np.bool_]) -> int:
        """Return the most pairs of a positive and a negative image that share no group: trials of an AUC."""
        return min(self.count(positive), self.count(~positive), self.num_groups // 2)

    def interval(
        self,
        statistic: Callable[[NDArray[np.float32]], NDArray[Any]],
        *,
        trials: int | None = None,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> list[float] | None:
        """Return the percentile interval of a statistic, [low, high]; without spread, `exact_interval`'s.

        Args:
            statistic: from weights (resamples, images) to values (resamples,); NaN where it has no value, such as an
                AUC in a draw without a positive image.
            trials: independent trials behind the statistic; None: the groups.
            bounds: least and greatest value of the statistic.

        Returns:
            None when there are fewer than two groups, or half of the draws have no value.
        """
        if self.num_groups < 2:
            return None
        values = np.concatenate([np.asarray(statistic(block), np.float64) for block in self.weights()])
        values = values[np.isfinite(values)]
        if len(values) < self._resamples / 2:
            return None
        outside = (1 - LEVEL) / 2
        low, high = np.quantile(values, [outside, 1 - outside])
        if high - low < _NO_SPREAD:
            return exact_interval(float(low), self.num_groups if trials is None else trials, bounds)
        return [float(low), float(high)]


def exact_interval(value: float, trials: int, bounds: tuple[float, float] = (0.0, 1.0)) -> list[float]:
    """Return the interval of a mean over trials that all gave one value, [low, high].

    Clopper and Pearson's limit for 0 of n bounds the share of trials that would give another value; those give the
    least or the greatest. For 0 or 1 this is their interval of a share: 16 of 16 is [0.794, 1].

    Args:
        value: of every trial.
        trials: at least 1.
        bounds: least and greatest value of a trial.
    """
    others = 1 - ((1 - LEVEL) / 2) ** (1 / trials)
    low, high = bounds
    return [max(low, value - others * (value - low)), min(high, value + others * (high - value))]
