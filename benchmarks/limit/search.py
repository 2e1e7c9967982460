"""The setting at which OpenVINO's own `benchmark_app` runs the network fastest.

All settings are tried twice, one after the other, and the better time of each counts: on a shared machine whatever is
measured in a slow minute would lose, and the limit with it.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHORT_NAMES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}  # as OpenVINO's tools write precisions
_PASSES = 2
_START_S = 120.0  # that compiling may take, beyond the seconds that are measured


@dataclass(frozen=True)
class Setting:
    """How the network is run.

    Attributes:
        streams: runs computed at a time.
        batch: images a run.
        images_per_s: the best that benchmark_app measured.
    """

    streams: int
    batch: int
    images_per_s: float


def search_settings(model: Path, precision: str, *, side: int, seconds: int) -> dict[str, Any]:
    """Try settings, and return all of them and the best.

    Args:
        model: an OpenVINO IR (.xml) with a free batch axis.
        precision: such as "float32".
        side: height and width of the network's input, pixels.
        seconds: for each setting and pass.
    """
    cores = os.cpu_count() or 1
    rates: dict[tuple[int, int], float] = {}
    for _ in range(_PASSES):
        for streams, batch in itertools.product(sorted({1, max(1, cores // 2), cores}), (1, 4, 8, 16)):
            rate = _measure(model, precision, streams, (batch, side), seconds)
            rates[streams, batch] = max(rate, rates.get((streams, batch), 0.0))
    tried = [Setting(streams, batch, rate) for (streams, batch), rate in rates.items()]
    best = max(tried, key=lambda setting: setting.images_per_s)
    return {"settings": [asdict(setting) for setting in tried], "best": asdict(best)}


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
