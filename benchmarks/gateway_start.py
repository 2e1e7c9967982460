"""The gateway as a process: seconds until it answers, and its resident memory then."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from typing import Any

import psutil

REPEATS = 9
TIMEOUT_S = 30.0


def run() -> dict[str, Any]:
    """Start it several times, without a model server: it is up at once and waits for one."""
    starts = [_one() for _ in range(REPEATS)]
    return {
        "repeats": REPEATS,
        "median_ready_s": round(statistics.median(seconds for seconds, _ in starts), 3),
        "median_resident_mb": round(statistics.median(resident for _, resident in starts), 1),
        "ready_s": [round(seconds, 3) for seconds, _ in starts],
    }


def _one() -> tuple[float, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service", "gateway", "--port", str(port), "--models", "none"]
    start = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while not _answers(port):
                if time.monotonic() - start > TIMEOUT_S or process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} does not answer")
                time.sleep(0.005)
            return time.monotonic() - start, psutil.Process(process.pid).memory_info().rss / 1e6
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
