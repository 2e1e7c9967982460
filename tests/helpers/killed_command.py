"""Kills a command of the pipeline that writes parts, in the middle of its work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.server_process import ROOT


def kill_after_parts(arguments: Sequence[str], out: Path, *, parts: int = 3) -> None:
    """Start a command and send it SIGKILL as soon as there are some parts in a folder.

    Args:
        arguments: of `python -m pipeline`.
        out: the folder.
        parts: so many.
    """
    command = [sys.executable, "-m", "pipeline", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list(out.glob("part-*"))) < parts and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
