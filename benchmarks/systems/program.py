"""One program with whatever processes it starts; none of them outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
_STOP_S = 20.0
_LOG_TAIL = 1500  # characters of a log that an error quotes


class Program:
    """A running command.

    Args:
        command: what to run.
        log: file for its stdout and stderr.
        environment: variables beside those of this process, of which FOVEA_* are left out.
        directory: where it runs; None for the project's root.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOVEA_")}
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory or ROOT,
                env={**inherited, **(environment or {})},
                start_new_session=True,
            )
        self._seen: dict[int, psutil.Process] = {}

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """True if the command is over."""
        return self._process.poll() is not None

    def pids(self) -> list[int]:
        """Return the ids of all its processes that are alive."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            for process in (root, *root.children(recursive=True)):
                self._seen.setdefault(process.pid, process)
        return [pid for pid, process in self._seen.items() if process.is_running()]

    def memory_mb(self) -> float:
        """Return the memory of all its processes, megabytes; what they share counts once (PSS)."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(psutil.Error):
                total += psutil.Process(pid).memory_full_info().pss
        return total / 1e6

    def pause(self) -> None:
        """Let none of its processes compute until `resume`."""
        for pid in self.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen[pid].suspend()

    def resume(self) -> None:
        """Let all its processes compute again."""
        for process in self._seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def log_tail(self) -> str:
        """Return the end of what it has printed."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL:].strip()

    def stop(self) -> None:
        """End all its processes: by SIGTERM to the first, then by force."""
        self.pids()
        if not self.has_ended:
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        for process in self._seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):  # psutil tells a reused id from the process it knew
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.1) -> bool:
    """Call `condition` until it is true; return whether that happened in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(interval_s)
    return False
