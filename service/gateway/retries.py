"""A budget for trying again: retries may add a tenth to the load, and never multiply it when everything fails."""

from __future__ import annotations

MAX_TRIES = 3
FIRST_PAUSE_S = 0.05


class RetryBudget:
    """Tokens: every call brings a part of one, every retry costs one.

    Args:
        ratio: tokens that a call brings.
        reserve: tokens at the start, and the most that are kept.
    """

    def __init__(self, *, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._tokens = reserve

    def count_call(self) -> None:
        """Bring what one call brings."""
        self._tokens = min(self._reserve, self._tokens + self._ratio)

    def spend(self) -> bool:
        """Say whether a retry is allowed, and pay for it."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
