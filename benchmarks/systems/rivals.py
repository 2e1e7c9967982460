"""Foveas that peers are measured in turns with, window by window, since the machine's speed changes in between."""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load.plan import Plan
from benchmarks.load.process import run_load
from benchmarks.systems.running import FAILURES, MAX_FAILURES, BrokenSystemError, Running, failure_text, started
from benchmarks.systems.system import System

Rates = dict[str, float]  # requests a second in one turn, by system
TakeTurn = Callable[[Plan], tuple[dict[str, Any], Rates]]


class Rivals:
    """Systems that stay up, idle while it is not their turn.

    Attributes:
        failures: of each, by name; after too many it is asked no more.
    """

    def __init__(self) -> None:
        self.failures: defaultdict[str, list[str]] = defaultdict(list)
        self._up: dict[str, tuple[Running, Plan]] = {}
        self._turns: Counter[str] = Counter()  # that each peer has had

    def add(self, running: Running, plan: Plan) -> None:
        """Take one more, which has started; the plan is how it is asked."""
        self._up[running.system.name] = (running, plan)

    def against(self, peer: Running, names: Sequence[str]) -> TakeTurn | None:
        """Return what runs a plan of a peer in turns with some of these systems; None where there are none."""
        return functools.partial(self._take_turn, peer, names) if names else None

    def _take_turn(self, peer: Running, names: Sequence[str], plan: Plan) -> tuple[dict[str, Any], Rates]:
        """Run the plan, and the same load on the others: the peer comes first in one turn and last in the next.

        Returns:
            The peer's window, and the rates of all that were measured.
        """
        is_first = not self._turns[peer.system.name] % 2
        self._turns[peer.system.name] += 1
        window = run_load(plan) if is_first else {}
        with peer.standing_still():
            windows = {name: self._run(name, plan) for name in (names if is_first else reversed(names))}
        window = window or run_load(plan)
        windows[peer.system.name] = window
        return window, {name: measured["rate"] for name, measured in windows.items() if measured}

    def _run(self, name: str, load: Plan) -> dict[str, Any]:
        """Return a system's window under the load of another's plan; empty if it fails."""
        if name not in self._up or len(self.failures[name]) >= MAX_FAILURES:
            return {}
        running, plan = self._up[name]
        try:
            if running.has_ended():
                raise BrokenSystemError(f"{name} has ended:\n{running.logs()}")
            return run_load(replace(plan, concurrency=load.concurrency, seconds=load.seconds, warm_up_s=load.warm_up_s))
        except FAILURES as err:
            self.failures[name].append(failure_text(err))
            return {}


@contextlib.contextmanager
def standing_by(systems: Sequence[System], workload: Path, folder: Path, settle: Mapping[str, Any]) -> Iterator[Rivals]:
    """Start systems and keep them up until the block ends; one that does not start is among the failures.

    Args:
        systems: which.
        workload: what `python -m benchmarks.workload` wrote.
        folder: for a folder of each.
        settle: the load that each gets once, as `Running.plan` takes it.
    """
    rivals = Rivals()
    with contextlib.ExitStack() as stack:
        for system in systems:
            try:
                running = stack.enter_context(started(system, workload, folder / f"rival-{system.name}"))
                plan = running.plan(**settle)
                run_load(plan)
                rivals.add(running, plan)
            except FAILURES as err:
                rivals.failures[system.name].append(failure_text(err))
        yield rivals


def compare(turns: Sequence[Mapping[str, float]], peer: str, rival: str) -> dict[str, Any]:
    """Return the median of a rival's rate over a peer's in the same turn, and the quartiles.

    Turns in which one of the two answered nothing are left out; without any other there is no ratio.
    """
    ratios = [turn[rival] / turn[peer] for turn in turns if turn.get(rival) and turn.get(peer)]
    low, middle, high = quartiles(ratios) if ratios else (None, None, None)
    return {"ratio": middle, "low": low, "high": high, "turns": len(ratios), "left_out": len(turns) - len(ratios)}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return them, the median in the middle; of one value, that value."""
    low, middle, high = statistics.quantiles([*values] * (2 if len(values) == 1 else 1), n=4, method="inclusive")
    return round(low, 3), round(middle, 3), round(high, 3)
