"""The limit as part of a run: search once, then measure in turns with the windows of what is held against it."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.machine_limit.search import search_settings
from benchmarks.systems.program import ROOT
from benchmarks.workload.shared import MODEL, VERSION

_CONVERT_TIMEOUT_S = 600.0
_START_TIMEOUT_S = 120.0
_TURN_TIMEOUT_S = 30.0  # beyond the seconds that are measured

Measure = Callable[[str, float], None]


class Limit:
    """The limit at one precision.

    Args:
        precision: such as "float32".
        workload: what `python -m benchmarks.workload` wrote.
        side: of the network's input, pixels.
    """

    def __init__(self, precision: str, workload: Path, *, side: int) -> None:
        self.precision = precision
        self._picture = workload / "picture.jpg"
        self._saved_model = workload / VERSION
        self._model = workload / f"{MODEL}.xml"
        self._side = side
        self._found: dict[str, Any] = {}
        self._turns: dict[str, list[dict[str, float]]] = {"full": [], "alone": []}

    def search(self, seconds: int) -> None:
        """Find the best setting with benchmark_app."""
        if not self._model.exists():
            command = [sys.executable, "-m", "benchmarks.machine_limit", str(self._saved_model), str(self._model)]
            subprocess.run(command, check=True, cwd=ROOT, timeout=_CONVERT_TIMEOUT_S, capture_output=True)
        self._found = search_settings(self._model, self.precision, side=self._side, seconds=seconds)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[Measure]:
        """Start a process that measures at the best setting when it is told to, and sleeps in between.

        Yields:
            What measures: called with "full" (all streams busy) or "alone" (one image at a time) and seconds.
        """
        best = self._found["best"]
        setting = {"model": str(self._model), "picture": str(self._picture), "side": self._side}
        setting |= {"precision": self.precision, "streams": best["streams"], "batch": best["batch"]}
        command = [sys.executable, "-m", "benchmarks.machine_limit"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
        with subprocess.Popen(command, **pipes) as worker:
            _ask(worker, setting, timeout_s=_START_TIMEOUT_S)

            def measure(part: str, seconds: float) -> None:
                self._turns[part].append(
                    _ask(worker, {"part": part, "seconds": seconds}, timeout_s=seconds + _TURN_TIMEOUT_S)
                )

            yield measure  # leaving the block closes stdin, which ends the process

    @property
    def is_measured(self) -> bool:
        """True if there is something to tell."""
        return all(self._turns.values())

    def document(self) -> dict[str, Any]:
        """Return settings, turns, medians and the limit: cores / (CPU seconds of inference + of decoding)."""
        medians = summarize_limit(self._turns, cores=os.cpu_count() or 1)
        return {"precision": self.precision, **self._found, **medians, "turns": self._turns}


def _ask(worker: subprocess.Popen[str], question: Mapping[str, Any], *, timeout_s: float) -> dict[str, float]:
    """Return a worker's answer; it is killed if that takes too long."""
    stdin, stdout = cast(IO[str], worker.stdin), cast(IO[str], worker.stdout)
    timer = threading.Timer(timeout_s, worker.kill)
    timer.start()
    try:
        stdin.write(json.dumps(question) + "\n")
        stdin.flush()
        answer: dict[str, float] = json.loads(stdout.readline())
    finally:
        timer.cancel()
    return answer


def summarize_limit(turns: Mapping[str, Sequence[Mapping[str, float]]], *, cores: int) -> dict[str, float]:
    """Return the medians of all turns, and the limit in images a second."""

    def median(part: str, name: str) -> float:
        return round(statistics.median(turn[name] for turn in turns[part]), 4)

    inference, decode = median("full", "inference_cpu_ms"), median("full", "decode_cpu_ms")
    return {
        "inference_cpu_ms": inference,
        "decode_cpu_ms": decode,
        "images_per_s": round(1e3 * cores / (inference + decode), 3),
        "raw_images_per_s": median("full", "images_per_s"),
        "engine_ms": median("alone", "engine_ms"),
        "decode_ms": median("alone", "decode_ms"),
    }
