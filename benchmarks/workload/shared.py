"""The workload, built once for all benchmarks of one run."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 1200.0


@functools.cache
def shared_workload(backbone: str = "ResNet50") -> Path:
    """Build network, store and picture, in a process that takes TensorFlow with it when it ends; gone at exit."""
    temporary = tempfile.TemporaryDirectory(prefix="bench-")
    atexit.register(temporary.cleanup)
    command = [sys.executable, "-m", "benchmarks.workload", temporary.name, backbone]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, cwd=_ROOT, timeout=_TIMEOUT_S, env=environment, stderr=subprocess.PIPE)
    return Path(temporary.name)
