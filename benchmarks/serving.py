"""Requests a second, latency and CPU of Fovea, of its peers and of the machine's limit, in one interleaved run.

Every round starts each system anew, checks its answer, measures it at each concurrency and stops it; the order moves on
from round to round. Where a limit is known for a system the two are measured in turns, window by window. Numbers are
medians over all windows. Fairness rules: docs/decisions/0025-serving-benchmarks.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.limit.measure import Limit
from benchmarks.load.plan import Plan
from benchmarks.systems.choice import choose_systems, precisions
from benchmarks.systems.program import ROOT
from benchmarks.systems.running import BrokenSystemError, Running, started
from benchmarks.systems.stages import split_call
from benchmarks.systems.system import System
from benchmarks.workload.shared import shared_workload

CONCURRENCIES = (1, 8, 32)
_LIMIT_PARTS = {1: "alone", 8: "full"}  # what is measured after a window at a concurrency
_SIDE = 224  # of the network's input, pixels
_LOAD_GRACE_S = 120.0
_MAX_FAILURES = 2  # of a system, before the other rounds go on without it
_ERROR_CHARACTERS = 2000


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: how often each system is started.
        windows: at each concurrency after a start, in turns.
        pairs: windows at 1 and at 8 where a limit is measured after each.
        seconds: of each window.
        warm_up_s: before each window.
        limit_s: of each measurement of the limit.
        settle_s: at concurrency 8, once after a start; graphs are traced for the batches that occur.
        search_s: for each setting of benchmark_app.
    """

    rounds: int
    windows: int
    pairs: int
    seconds: float
    warm_up_s: float
    limit_s: float
    settle_s: float
    search_s: int


SIZES = {
    "quick": Size(rounds=1, windows=1, pairs=1, seconds=1.5, warm_up_s=0.5, limit_s=0.5, settle_s=1.0, search_s=1),
    "standard": Size(rounds=3, windows=2, pairs=6, seconds=3.0, warm_up_s=0.75, limit_s=1.5, settle_s=1.5, search_s=2),
    "full": Size(rounds=5, windows=2, pairs=6, seconds=10.0, warm_up_s=2.0, limit_s=4.0, settle_s=4.0, search_s=5),
}


def run(size: str = "standard") -> dict[str, Any]:
    """Measure everything; `BENCHMARK_SYSTEMS=name,name` leaves out the other systems."""
    began = time.monotonic()
    systems, skipped = choose_systems(os.environ.get("BENCHMARK_SYSTEMS", ""))
    workload = shared_workload()
    limits = {f"fovea-{name}": Limit(name, workload, side=_SIDE) for name in precisions()}
    for name in {system.name for system in systems} & limits.keys():
        limits[name].search(SIZES[size].search_s)
    rounds = _run_rounds(systems, limits, workload, SIZES[size])
    return {
        "size": size,
        "rounds": SIZES[size].rounds,
        "windows": SIZES[size].windows,
        "pairs": SIZES[size].pairs,
        "window_s": SIZES[size].seconds,
        "took_s": round(time.monotonic() - began),
        "picture_bytes": (workload / "picture.jpg").stat().st_size,
        "limit": {limit.precision: limit.document() for limit in limits.values() if limit.is_measured},
        "systems": {s.name: {"title": s.title, **summarize(rounds[s.name])} for s in systems},
        "skipped": skipped,
    }


def _run_rounds(
    systems: Sequence[System], limits: Mapping[str, Limit], workload: Path, size: Size
) -> dict[str, list[dict[str, Any]]]:
    """Start and measure each system once a round, and return what each did by its name."""
    began = time.monotonic()
    rounds: dict[str, list[dict[str, Any]]] = {system.name: [] for system in systems}
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        for number in range(size.rounds):
            for turn in range(len(systems)):
                system = systems[(turn + number) % len(systems)]
                earlier = rounds[system.name]
                if sum("failed" in one for one in earlier) < _MAX_FAILURES:
                    folder = Path(temporary) / f"{system.name}-{number}"
                    earlier.append(_try(system, workload, folder, size, limits.get(system.name)))
                say(f"round {number + 1}/{size.rounds}: {system.name}", began)
    return rounds


def _try(system: System, workload: Path, folder: Path, size: Size, limit: Limit | None) -> dict[str, Any]:
    """Measure a system once; a failure is a result too."""
    try:
        with started(system, workload, folder) as running:
            return measure(running, size, limit)
    except (BrokenSystemError, subprocess.SubprocessError, OSError, ValueError) as err:
        return {"failed": str(err)[-_ERROR_CHARACTERS:]}


def measure(running: Running, size: Size, limit: Limit | None = None) -> dict[str, Any]:
    """Measure a started system at each concurrency, in turns with its limit."""
    payload = running.system.payload(running.place.workload / "picture.jpg", running.place.folder)
    index = json.loads((running.place.workload / "expected.json").read_text())["index"]
    plan = Plan(
        running.address,
        (payload,),
        concurrency=8,
        seconds=size.settle_s,
        warm_up_s=0.0,
        expect=running.system.expects(index),
        groups=running.groups(),
        protocol=running.system.protocol,
    )
    run_load(plan)
    windows: dict[str, list[dict[str, Any]]] = {str(concurrency): [] for concurrency in CONCURRENCIES}
    with limit.measuring() if limit else contextlib.nullcontext() as measure_limit:
        for concurrency in _order(size, paired=limit is not None):
            changed = replace(plan, concurrency=concurrency, seconds=size.seconds, warm_up_s=size.warm_up_s)
            windows[str(concurrency)].append(_run_window(running, changed))
            if measure_limit is not None and concurrency in _LIMIT_PARTS:
                measure_limit(_LIMIT_PARTS[concurrency], size.limit_s)
    return {"start_s": round(running.start_s, 2), "memory_mb": running.memory_mb(), "concurrency": windows}


def _order(size: Size, *, paired: bool) -> list[int]:
    """Return the concurrencies of all windows after one start."""
    if not paired:
        return [*CONCURRENCIES] * size.windows
    rest = [concurrency for concurrency in CONCURRENCIES if concurrency not in _LIMIT_PARTS]
    return [*_LIMIT_PARTS] * size.pairs + rest * size.windows


def _run_window(running: Running, plan: Plan) -> dict[str, Any]:
    """Run one plan; a caller alone is also told where the time of its calls goes."""
    before = running.call_totals() if plan.concurrency == 1 else {}
    if not before:
        return run_load(plan)
    window = run_load(replace(plan, warm_up_s=0.0))  # or calls would be in the parts that are not in the whole
    if window["requests"]:
        window["parts_ms"] = split_call(before, running.call_totals(), client_ms=window["latency_ms"]["mean"])
    return window


def run_load(plan: Plan) -> dict[str, Any]:
    """Run one plan in a process of its own and return what it tells."""
    command = [sys.executable, "-m", "benchmarks.load"]
    limit_s = plan.warm_up_s + plan.seconds + 3 * plan.timeout_s + _LOAD_GRACE_S
    pipes: dict[str, Any] = {"input": plan.to_json(), "capture_output": True, "text": True}
    done = subprocess.run(command, check=True, cwd=ROOT, timeout=limit_s, **pipes)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def summarize(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the windows of rounds that did not fail, and the rounds themselves."""
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
    """Tell whoever waits."""
    print(f"[{time.monotonic() - began:6.0f} s] {text}", file=sys.stderr, flush=True)
