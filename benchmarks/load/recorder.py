"""Counts answers inside the measured window, and says when it is over."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.load.cpu import Snapshot, take_snapshot
from benchmarks.load.plan import Plan

OK = "ok"
_GRACE_S = 1.0


class Recorder:
    """Keeps what is counted.

    The window begins with the first answer after the warm-up, which is not counted, and ends with the first answer
    after `plan.seconds` more, which is: servers that answer in batches are then counted by whole batches.

    Args:
        plan: how long.
        started_at: `time.monotonic` of the first request, seconds.

    Attributes:
        is_over: whether the window has ended.
    """

    def __init__(self, plan: Plan, started_at: float) -> None:
        self._plan = plan
        self._warm_until = started_at + plan.warm_up_s
        # The window may begin one timeout late and end another one late.
        self._give_up_at = self._warm_until + plan.seconds + 2 * plan.timeout_s + _GRACE_S
        self._begin: Snapshot | None = None
        self._end: Snapshot | None = None
        self._latencies_s: list[float] = []
        self._errors: Counter[str] = Counter()
        self.is_over = False

    def record(self, now: float, latency_s: float, outcome: str) -> None:
        """Take one answer.

        Args:
            now: `time.monotonic`, seconds.
            latency_s: since its request was begun.
            outcome: OK, or what was wrong, such as "503", "timeout", "connection" or "unexpected".
        """
        if self.is_over or now < self._warm_until:
            return
        if self._begin is None:
            self._begin = take_snapshot(self._plan.groups)
            return
        if outcome == OK:
            self._latencies_s.append(latency_s)
        else:
            self._errors[outcome] += 1
        if now >= self._begin.at + self._plan.seconds:
            self._finish()

    def tick(self, now: float) -> None:
        """End a window in which answers fail to come."""
        if not self.is_over and now > self._give_up_at:
            self._finish()

    def _finish(self) -> None:
        self._end = take_snapshot(self._plan.groups)
        self.is_over = True

    def summarize(self) -> dict[str, Any]:
        """Return rates, latencies in milliseconds and CPU seconds; zeros when nothing was answered."""
        begin, end = self._begin, self._end
        if begin is None or end is None:
            return {"requests": 0, "seconds": 0.0, "rate": 0.0, "errors": dict(self._errors) or {"timeout": 1}}
        seconds = end.at - begin.at
        return {
            "requests": len(self._latencies_s),
            "seconds": round(seconds, 4),
            "rate": round(len(self._latencies_s) / seconds, 3),
            "errors": dict(self._errors),
            "latency_ms": summarize_latencies(self._latencies_s),
            "cpu_s": {name: round(end.groups_s[name] - begin.groups_s[name], 3) for name in begin.groups_s},
            "generator_cpu_s": round(end.own_s - begin.own_s, 4),
            "machine_cpu_s": round(end.machine_s - begin.machine_s, 3),
            "stolen_cpu_s": round(end.stolen_s - begin.stolen_s, 3),
        }


def summarize_latencies(latencies_s: Sequence[float]) -> dict[str, float]:
    """Return percentiles and the mean, milliseconds; nothing for no latencies."""
    if not latencies_s:
        return {}
    ordered = sorted(latencies_s)
    values = {f"p{share}": percentile(ordered, share) for share in (50, 90, 99)}
    values |= {"max": ordered[-1], "mean": sum(ordered) / len(ordered)}
    return {name: round(value * 1e3, 3) for name, value in values.items()}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` percent of the values do not exceed (nearest rank).

    Args:
        ordered: at least one value, ascending.
        share: above 0, at most 100.
    """
    return ordered[max(1, math.ceil(share / 100 * len(ordered))) - 1]
