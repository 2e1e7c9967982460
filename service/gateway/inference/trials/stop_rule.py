"""Decides by errors and latency when a canary stops."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_LEAST_SLOWER_S = 0.02  # below that a small model's jitter would stop its canary
_PERCENTILE = 0.95


@dataclass(frozen=True, slots=True)
class StopLimits:
    """Thresholds of a canary.

    Attributes:
        max_errors: share of the candidate's calls that may fail beyond the share of the live version's, 0 to 1.
        max_slowdown: the candidate's 95th percentile of latency may be this multiple of the live version's.
        min_answers: answers of each version before latencies are compared; errors are shares of at least so many.
    """

    max_errors: float
    max_slowdown: float
    min_answers: int


class StopRule:
    """Watches the latest calls of a canary and of the live version beside it, `2 * min_answers` of each.

    Args:
        limits: the thresholds.
    """

    def __init__(self, limits: StopLimits) -> None:
        self._limits = limits
        self._candidate: deque[float | None] = deque(maxlen=2 * limits.min_answers)
        self._live: deque[float | None] = deque(maxlen=2 * limits.min_answers)

    def record(self, seconds: float | None, *, by_candidate: bool) -> None:
        """Record a call: how long its answer took, or None for an error."""
        (self._candidate if by_candidate else self._live).append(seconds)

    def reason(self) -> str | None:
        """Return why the canary is to stop; None if it may go on."""
        return self._errors() or self._latency()

    def _errors(self) -> str | None:
        limits, num_calls, num_errors = self._limits, len(self._candidate), self._candidate.count(None)
        live_share = self._live.count(None) / max(len(self._live), 1)
        allowed = limits.max_errors * max(num_calls, limits.min_answers) + live_share * num_calls
        if num_errors <= allowed:
            return None
        return (
            f"errors: {num_errors} of the last {num_calls} calls failed ({live_share:.1%} of the live version's); the "
            f"limit is {limits.max_errors:.1%} more, of at least {limits.min_answers} calls (FOVEA_CANARY_MAX_ERRORS)"
        )

    def _latency(self) -> str | None:
        limits = self._limits
        candidate, live = _percentile(self._candidate, limits), _percentile(self._live, limits)
        if candidate is None or live is None or candidate <= max(limits.max_slowdown * live, live + _LEAST_SLOWER_S):
            return None
        return (
            f"latency: the 95th percentile is {1000 * candidate:.0f} ms, the live version's {1000 * live:.0f} ms; the "
            f"limit is {limits.max_slowdown:g} times that (FOVEA_CANARY_MAX_SLOWDOWN)"
        )


def _percentile(calls: deque[float | None], limits: StopLimits) -> float | None:
    """Return the 95th percentile of the answers' times; None while there are too few."""
    times = sorted(seconds for seconds in calls if seconds is not None)
    return times[int(_PERCENTILE * (len(times) - 1))] if len(times) >= limits.min_answers else None
