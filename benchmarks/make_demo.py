"""Times `make demo` on a fresh checkout whose environment is built: sample set, training, serving, one prediction."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.systems.program import ROOT

REPEATS = {"quick": 1, "standard": 1, "full": 3}
_TIMEOUT_S = 1800.0


def run(size: str = "standard") -> dict[str, Any]:
    """Run the demo's script in a clone of the last commit."""
    seconds = [_one() for _ in range(REPEATS[size])]
    return {"size": size, "seconds": [round(one, 1) for one in seconds], "median_s": round(statistics.median(seconds))}


def _one() -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True, timeout=_TIMEOUT_S)
        start = time.monotonic()
        command = [sys.executable, str(clone / "scripts/demo.py")]
        subprocess.run(command, check=True, cwd=clone, timeout=_TIMEOUT_S, capture_output=True)
        return time.monotonic() - start
