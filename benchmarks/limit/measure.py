"""The limit as part of a run: search once, then measure once in each round, like every system."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.limit.search import search_settings
from benchmarks.systems.program import ROOT

_CONVERT_TIMEOUT_S = 600.0
_START_S = 120.0


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
        self._saved_model = workload / "models/resnet50/1"
        self._model = workload / "resnet50.xml"
        self._side = side
        self._found: dict[str, Any] = {}
        self._rounds: list[dict[str, Any]] = []

    def search(self, seconds: int) -> None:
        """Find the best setting with benchmark_app."""
        if not self._model.exists():
            command = [sys.executable, "-m", "benchmarks.limit", str(self._saved_model), str(self._model)]
            subprocess.run(command, check=True, cwd=ROOT, timeout=_CONVERT_TIMEOUT_S, capture_output=True)
        self._found = search_settings(self._model, self.precision, side=self._side, seconds=seconds)

    def measure(self, seconds: float) -> None:
        """Measure once at that setting."""
        best = self._found["best"]
        asked = {"model": str(self._model), "picture": str(self._picture), "side": self._side, "seconds": seconds}
        asked |= {"precision": self.precision, "streams": best["streams"], "batch": best["batch"]}
        command = [sys.executable, "-m", "benchmarks.limit"]
        text, limit_s = json.dumps(asked), 4 * seconds + _START_S
        done = subprocess.run(
            command, input=text, check=True, cwd=ROOT, timeout=limit_s, capture_output=True, text=True
        )
        self._rounds.append(json.loads(done.stdout))

    def document(self) -> dict[str, Any]:
        """Return settings, rounds, medians and the limit: cores / (CPU seconds of inference + of decoding)."""
        medians = summarize_limit(self._rounds, cores=os.cpu_count() or 1)
        return {"precision": self.precision, **self._found, **medians, "rounds": self._rounds}


def summarize_limit(rounds: Sequence[dict[str, Any]], *, cores: int) -> dict[str, float]:
    """Return the medians of the rounds, and the limit in images a second."""

    def median(pick: Any) -> float:
        return round(statistics.median(pick(one) for one in rounds), 4)

    inference, decode = median(lambda one: one["inference"]["cpu_ms"]), median(lambda one: one["decode"]["cpu_ms"])
    return {
        "inference_cpu_ms": inference,
        "decode_cpu_ms": decode,
        "images_per_s": round(1e3 * cores / (inference + decode), 3),
        "raw_images_per_s": median(lambda one: one["inference"]["images_per_s"]),
        "engine_ms": median(lambda one: one["engine_ms"]),
        "decode_ms": median(lambda one: one["decode"]["ms"]),
    }
