"""95 % intervals by resampling groups: images of one patient are not independent, patients are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_BLOCK_NUMBERS = 4_000_000  # weights in memory at once: 16 MB


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

    def interval(self, statistic: Callable[[NDArray[np.float32]], NDArray[Any]]) -> list[float] | None:
        """Return the percentile interval of a statistic, [low, high].

        Args:
            statistic: from weights (resamples, images) to values (resamples,); NaN where it has no value, such as an
                AUC in a draw without a positive image.

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
        return [float(low), float(high)]
