"""Requests a second, latency and CPU of Fovea, of its peers and of the machine's limit, in one interleaved run.

Every round starts each system anew, checks its answer, measures it at each concurrency and stops it; the order moves on
from round to round. Where a limit is known for a system the two are measured in turns, window by window, and so is each
peer with Foveas that stay up for the whole run. Numbers are medians over all windows, ratios medians over all turns.
Fairness rules: docs/decisions/0025-serving-benchmarks.md.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load.plan import Plan
from benchmarks.load.process import run_load
from benchmarks.machine_limit.measure import Limit
from benchmarks.systems.call_stages import split_call
from benchmarks.systems.choice import choose_rivals, choose_systems, precisions
from benchmarks.systems.pairs import fovea_at, rivals_of
from benchmarks.systems.rivals import Rates, Rivals, TakeTurn, compare, standing_by
from benchmarks.systems.running import FAILURES, MAX_FAILURES, Running, failure_text, started
from benchmarks.systems.system import System
from benchmarks.workload.shared import NETWORKS, RESNET50, shared_workload

CONCURRENCIES = (1, 8, 32)
_BUSY = 8  # the concurrency at which peers are measured in turns, and systems settle
_LIMIT_PARTS = {1: "alone", 8: "full"}  # what is measured after a window at a concurrency


@dataclass(frozen=True)
class Size:
    """The size of a measurement.

    Attributes:
        rounds: how often each system is started.
        windows: at each concurrency after a start, in turns.
        pairs: windows at 1 and at 8 where a limit is measured after each.
        turns: windows at 8 of a peer and of each Fovea that it is held against.
        seconds: of each window.
        warm_up_s: before each window.
        limit_s: of each measurement of the limit.
        settle_s: at concurrency 8, once after a start; graphs are traced for the batches that occur.
        search_s: for each setting of benchmark_app.
    """

    rounds: int
    windows: int
    pairs: int
    turns: int
    seconds: float
    warm_up_s: float
    limit_s: float
    settle_s: float
    search_s: int


SIZES = {
    "quick": Size(
        rounds=1, windows=1, pairs=1, turns=1, seconds=1.5, warm_up_s=0.5, limit_s=0.5, settle_s=1.0, search_s=1
    ),
    "standard": Size(
        rounds=3, windows=2, pairs=6, turns=3, seconds=3.0, warm_up_s=0.75, limit_s=1.5, settle_s=1.5, search_s=2
    ),
    "full": Size(
        rounds=5, windows=2, pairs=6, turns=4, seconds=10.0, warm_up_s=2.0, limit_s=4.0, settle_s=4.0, search_s=5
    ),
}


@dataclass(frozen=True)
class Bench:
    """The workload that all systems of a run share.

    Attributes:
        size: how much.
        workload: what `python -m benchmarks.workload` wrote.
        folder: for a folder of each start.
        limits: by the system that is held against each.
        rivals: that peers are held against.
    """

    size: Size
    workload: Path
    folder: Path
    limits: Mapping[str, Limit]
    rivals: Rivals


def run(size: str = "standard") -> dict[str, Any]:
    """Measure everything; `BENCHMARK_SYSTEMS=name,name` leaves out the other systems."""
    return measure_network(RESNET50, size, os.environ.get("BENCHMARK_SYSTEMS", ""))


def measure_network(network: str, size: str, wanted: str) -> dict[str, Any]:
    """Measure systems with a network.

    Args:
        network: of `NETWORKS`; servers on Keras, and those asked with decoded pixels, know ResNet50 alone.
        size: of SIZES.
        wanted: names of systems, separated by commas; empty for all.
    """
    began, chosen = time.monotonic(), SIZES[size]
    systems, skipped = choose_systems(wanted)
    workload, (side, _) = shared_workload(network), NETWORKS[network]
    limits = {fovea_at(name): Limit(name, workload, side=side) for name in precisions()}
    for name in {system.name for system in systems} & limits.keys():
        limits[name].search(chosen.search_s)
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        with standing_by(choose_rivals(systems), workload, folder, _settling(chosen)) as rivals:
            say("rivals are up", began)
            rounds = _run_rounds(systems, Bench(chosen, workload, folder, limits, rivals))
    return {
        "size": size,
        "rounds": chosen.rounds,
        "windows": chosen.windows,
        "pairs": chosen.pairs,
        "turns": chosen.turns,
        "window_s": chosen.seconds,
        "took_s": round(time.monotonic() - began),
        "picture_bytes": (workload / "picture.jpg").stat().st_size,
        "limit": {limit.precision: limit.document() for limit in limits.values() if limit.is_measured},
        "systems": {
            s.name: {"title": s.title, **summarize(s.name, rounds[s.name], rivals_of(s.name, precisions()))}
            for s in systems
        },
        "rival_failures": rivals.failures,
        "skipped": skipped,
    }


def _run_rounds(systems: Sequence[System], bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """Start and measure each system once a round, and return what each did by its name."""
    began = time.monotonic()
    rounds: dict[str, list[dict[str, Any]]] = {system.name: [] for system in systems}
    for number in range(bench.size.rounds):
        for turn in range(len(systems)):
            system = systems[(turn + number) % len(systems)]
            earlier = rounds[system.name]
            if sum("failed" in one for one in earlier) < MAX_FAILURES:
                earlier.append(_try(system, bench.folder / f"{system.name}-{number}", bench))
            say(f"round {number + 1}/{bench.size.rounds}: {system.name}", began)
    return rounds


def _try(system: System, folder: Path, bench: Bench) -> dict[str, Any]:
    """Measure a system once; a failure is a result too."""
    try:
        with started(system, bench.workload, folder) as running:
            take_turn = bench.rivals.against(running, rivals_of(system.name, precisions()))
            return measure(running, bench.size, bench.limits.get(system.name), take_turn)
    except FAILURES as err:
        return {"failed": failure_text(err)}


def _settling(size: Size) -> dict[str, Any]:
    """Return the load that a system gets once it has started."""
    return {"concurrency": _BUSY, "seconds": size.settle_s, "warm_up_s": 0.0}


def measure(
    running: Running, size: Size, limit: Limit | None = None, take_turn: TakeTurn | None = None
) -> dict[str, Any]:
    """Measure a started system at each concurrency, in turns with its limit or with what it is held against."""
    plan = running.plan(**_settling(size))
    run_load(plan)
    windows: dict[str, list[dict[str, Any]]] = {str(concurrency): [] for concurrency in CONCURRENCIES}
    turns: list[Rates] = []
    with limit.measuring() if limit else contextlib.nullcontext() as measure_limit:
        for concurrency in _order(size, limited=limit is not None, in_turns=take_turn is not None):
            changed = replace(plan, concurrency=concurrency, seconds=size.seconds, warm_up_s=size.warm_up_s)
            if take_turn is not None and concurrency == _BUSY:
                window, rates = take_turn(changed)
                turns.append(rates)
            else:
                window = _run_window(running, changed)
            windows[str(concurrency)].append(window)
            if measure_limit is not None and concurrency in _LIMIT_PARTS:
                measure_limit(_LIMIT_PARTS[concurrency], size.limit_s)
    document = {"start_s": round(running.start_s, 2), "memory_mb": running.memory_mb(), "concurrency": windows}
    return {**document, "turns": turns} if turns else document


def _order(size: Size, *, limited: bool, in_turns: bool) -> list[int]:
    """Return the concurrencies of all windows after one start."""
    paired: list[int] = []
    count = 0
    if limited:
        paired, count = [*_LIMIT_PARTS], size.pairs
    elif in_turns:
        paired, count = [_BUSY], size.turns
    rest = [concurrency for concurrency in CONCURRENCIES if concurrency not in paired]
    return paired * count + rest * size.windows


def _run_window(running: Running, plan: Plan) -> dict[str, Any]:
    """Run one plan; a caller alone is also told where the time of its calls goes."""
    before = running.call_totals() if plan.concurrency == 1 else {}
    if not before:
        return run_load(plan)
    window = run_load(replace(plan, warm_up_s=0.0))  # or calls would be in the parts that are not in the whole
    if window["requests"]:
        window["parts_ms"] = split_call(before, running.call_totals(), client_ms=window["latency_ms"]["mean"])
    return window


def summarize(name: str, rounds: Sequence[dict[str, Any]], rivals: Sequence[str] = ()) -> dict[str, Any]:
    """Return medians over the windows of a system's rounds that did not fail, and the rounds themselves.

    Args:
        name: of the system.
        rounds: what `measure` returned, or why it could not.
        rivals: names of those that it was measured in turns with.
    """
    good = [one for one in rounds if "failed" not in one]
    document: dict[str, Any] = {"failures": [one["failed"] for one in rounds if "failed" in one]}
    if good:
        groups = good[0]["memory_mb"]
        document["start_s"] = median(one["start_s"] for one in good)
        document["memory_mb"] = {name: median(one["memory_mb"][name] for one in good) for name in groups}
        document["concurrency"] = {
            key: summarize_windows([window for one in good for window in one["concurrency"][key]])
            for key in good[0]["concurrency"]
        }
    if good and rivals:
        turns = [turn for one in good for turn in one["turns"]]
        document["against"] = {rival: compare(turns, name, rival) for rival in rivals}
    return {**document, "rounds": [one for one in rounds if "failed" not in one]}


def summarize_windows(windows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians of windows at one concurrency; CPU is milliseconds a request."""
    answered = [window for window in windows if window["requests"]]
    errors = sum(sum(window["errors"].values()) for window in windows)
    summary: dict[str, Any] = {"rate": median(window["rate"] for window in windows), "errors": errors}
    if not answered:
        return summary
    summary["latency_ms"] = {
        name: median(window["latency_ms"][name] for window in answered) for name in answered[0]["latency_ms"]
    }
    summary["cpu_ms"] = {
        name: median(1e3 * window["cpu_s"][name] / window["requests"] for window in answered)
        for name in answered[0]["cpu_s"]
    }
    if parts := [window["parts_ms"] for window in answered if "parts_ms" in window]:
        summary["parts_ms"] = {name: median(one[name] for one in parts) for name in parts[0]}
    summary["generator_cpu_ms"] = median(1e3 * window["generator_cpu_s"] / window["requests"] for window in answered)
    summary["others_cores"] = median(_others(window) for window in answered)
    return summary


def _others(window: dict[str, Any]) -> float:
    """Return how many cores programs used that have no part in the measurement."""
    measured = sum(window["cpu_s"].values()) + window["generator_cpu_s"]
    return max(0.0, (window["machine_cpu_s"] - measured) / window["seconds"])


def median(values: Any) -> float:
    """Return the median, rounded to what a reader can use."""
    return round(float(statistics.median(values)), 3)


def say(text: str, began: float) -> None:
    """Print a line of progress, after the seconds since `began`."""
    print(f"[{time.monotonic() - began:6.0f} s] {text}", file=sys.stderr, flush=True)
