"""The setting at which OpenVINO's own `benchmark_app` runs the network fastest.

All settings are tried twice, one after the other, and the better time of each counts: on a shared machine whatever is
measured in a slow minute would lose, and the limit with it. The fastest setting of each number of streams is a
finalist: they are measured again in turns, and the best median decides.
"""

from __future__ import annotations

import itertools
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHORT_NAMES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}  # as OpenVINO's tools write precisions
FINAL_TURNS = 5
_PASSES = 2
_BATCHES = (1, 4, 8, 16)
_START_S = 120.0  # that compiling may take, beyond the seconds that are measured

Rate = Callable[[int, int], float]  # streams and batch -> images a second, measured now


@dataclass(frozen=True)
class Setting:
    """One setting of the network's execution.

    Attributes:
        streams: runs computed at a time.
        batch: images a run.
        images_per_s: what benchmark_app measured.
    """

    streams: int
    batch: int
    images_per_s: float


def search_settings(model: Path, precision: str, *, side: int, seconds: int) -> dict[str, Any]:
    """Try settings with benchmark_app, and return what `choose_setting` does.

    Args:
        model: an OpenVINO IR (.xml) with a free batch axis.
        precision: such as "float32".
        side: height and width of the network's input, pixels.
        seconds: for each setting and pass.
    """
    cores = os.cpu_count() or 1
    return choose_setting(
        lambda streams, batch: _measure(model, precision, streams, (batch, side), seconds),
        sorted({1, max(1, cores // 2), cores}),
    )


def choose_setting(rate: Rate, streams: Sequence[int]) -> dict[str, Any]:
    """Return all settings with their best rates, the finalists with their medians, and the best of those.

    Args:
        rate: measures a setting.
        streams: numbers of them to try, each with every batch.
    """
    rates: dict[tuple[int, int], float] = {}
    for _ in range(_PASSES):
        for setting in itertools.product(streams, _BATCHES):
            rates[setting] = max(rate(*setting), rates.get(setting, 0.0))
    fastest = [max(((number, batch) for batch in _BATCHES), key=rates.__getitem__) for number in streams]
    turns = [[rate(*setting) for setting in fastest] for _ in range(FINAL_TURNS)]
    medians = map(statistics.median, zip(*turns, strict=True))
    finalists = [Setting(*setting, median) for setting, median in zip(fastest, medians, strict=True)]
    return {
        "settings": [asdict(Setting(*setting, best)) for setting, best in rates.items()],
        "finalists": [asdict(setting) for setting in finalists],
        "best": asdict(max(finalists, key=lambda setting: setting.images_per_s)),
    }


def _measure(model: Path, precision: str, streams: int, shape: tuple[int, int], seconds: int) -> float:
    batch, side = shape
    command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model), "-d", "CPU", "-hint", "none"]
    command += ["-nstreams", str(streams), "-nireq", str(2 * streams), "-infer_precision", SHORT_NAMES[precision]]
    command += ["-shape", f"[{batch},{side},{side},3]", "-t", str(seconds), "-nthreads", str(os.cpu_count() or 1)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _START_S, check=True)
    found = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    if found is None:
        raise RuntimeError(f"benchmark_app: expected a line with the throughput. Received:\n{done.stdout[-500:]}")
    return float(found[1])
