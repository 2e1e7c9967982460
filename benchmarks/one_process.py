"""Gateway and embedded model server in one process against the same two in processes of their own.

`run(size) -> dict`: each network at the fastest precision of this machine, both arrangements up at once and measured in
turns; and how long requests take while another version is loaded.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkouts.ratios import ratio_of_pairs
from benchmarks.load.process import run_load
from benchmarks.systems.choice import precisions
from benchmarks.systems.fovea import fovea, fovea_apart
from benchmarks.systems.running import Running, started
from benchmarks.workload.shared import NETWORKS, VERSION, publish_copy, shared_workload
from contract.store import ModelStore

CONCURRENCIES = (1, 8)
_ORDER = (0, 1, 1, 0)  # apart and together: what drifts evenly falls on both


@dataclass(frozen=True)
class Size:
    """The size of a measurement.

    Attributes:
        blocks: of four windows, for each network and concurrency.
        seconds: of a window.
        loads: of another version, for each arrangement.
    """

    blocks: int
    seconds: float
    loads: int


SIZES = {"quick": Size(1, 1.5, 1), "standard": Size(4, 2.0, 2), "full": Size(12, 4.0, 4)}


def run(size: str = "standard") -> dict[str, Any]:
    """Measure; see the module."""
    networks = {name: _measure(shared_workload(name), SIZES[size]) for name in NETWORKS}
    return {"size": size, "precision": precisions()[-1], "networks": networks}


def _measure(workload: Path, size: Size) -> dict[str, Any]:
    with _both(workload) as pair:
        for running in pair:
            run_load(running.plan(concurrency=max(CONCURRENCIES), seconds=size.seconds, warm_up_s=1.0))
        windows = {str(concurrency): _compare(pair, concurrency, size) for concurrency in CONCURRENCIES}
        memory = {running.system.name: round(sum(running.memory_mb().values())) for running in pair}
    loads = [_load_another(workload, size) for _ in range(size.loads)]
    return {"concurrency": windows, "memory_mb": memory, "while_loading": loads}


@contextlib.contextmanager
def _both(workload: Path) -> Iterator[tuple[Running, Running]]:
    flag = f"--precision={precisions()[-1]}"
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        started(fovea_apart("apart", "two processes", flag), workload, Path(folder, "apart")) as apart,
        started(fovea("together", "one process", flag), workload, Path(folder, "together")) as together,
    ):
        yield apart, together


def _compare(pair: tuple[Running, Running], concurrency: int, size: Size) -> dict[str, Any]:
    """Return the ratios of one process to two, each with its interval, and the medians of both."""
    blocks = []
    for _ in range(size.blocks):
        plans = [pair[side].plan(concurrency=concurrency, seconds=size.seconds, warm_up_s=0.5) for side in _ORDER]
        blocks.append([_figures(run_load(plan)) for plan in plans])
    windows = [(block[first], block[second]) for block in blocks for first, second in ((0, 1), (3, 2))]
    names = ("rate", "p50_ms", "p99_ms", "cpu_ms")
    return {
        "ratio": {name: ratio_of_pairs([(a[name], b[name]) for a, b in windows]).rounded(3) for name in names},
        "apart": {name: round(statistics.median(a[name] for a, _ in windows), 2) for name in names},
        "together": {name: round(statistics.median(b[name] for _, b in windows), 2) for name in names},
    }


def _figures(window: dict[str, Any]) -> dict[str, float]:
    return {
        "rate": window["rate"],
        "p50_ms": window["latency_ms"]["p50"],
        "p99_ms": window["latency_ms"]["p99"],
        "cpu_ms": 1e3 * sum(window["cpu_s"].values()) / window["requests"],
    }


def _load_another(workload: Path, size: Size) -> dict[str, Any]:
    """Return, for each arrangement, the latencies of four callers while a second version is loaded and before."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        found = {}
        for name, make in {"apart": fovea_apart, "together": fovea}.items():
            copy = Path(temporary, name)
            shutil.copytree(workload, copy)
            system = make("fovea", "Fovea", f"--precision={precisions()[-1]}")
            with started(system, copy, Path(temporary, f"{name}-run")) as running:
                before = run_load(running.plan(concurrency=4, seconds=size.seconds, warm_up_s=1.0))
                publisher = threading.Timer(0.5, publish_copy, [ModelStore(copy / "models"), copy / VERSION])
                publisher.start()
                during = run_load(running.plan(concurrency=4, seconds=size.seconds, warm_up_s=0.0))
                publisher.join()
            found[name] = {
                when: {key: round(window["latency_ms"][key], 1) for key in ("p50", "p99", "max")}
                for when, window in {"before": before, "during": during}.items()
            }
    return found
