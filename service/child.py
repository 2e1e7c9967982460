"""A process of our own: started so that it cannot outlive us, stopped in bounded time."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Child:
    """A `python -m` process of this package.

    It has a session of its own, so that Ctrl-C in a terminal reaches only its parent, which stops its children in
    order. On Linux the kernel kills it when the parent dies without having stopped it.

    Args:
        name: shown in messages.
        arguments: the command and its flags.
        module: what is run.
        pass_fds: file descriptors that it inherits.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, module: str = "service", pass_fds: Sequence[int] = ()
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            # Not the working directory: a folder named service in it would be run instead of this package.
            [sys.executable, "-P", "-m", module, *arguments],
            env=_environment(),
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
            stdin=subprocess.DEVNULL,
        )

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end, if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self, timeout_s: float) -> None:
        """Ask it to end, kill it if it does not within `timeout_s`, and wait until it is gone."""
        self.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()


def _environment() -> dict[str, str]:
    """Return an environment in which this very package is found."""
    root = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return the function that a new process runs first: it asks the kernel for SIGKILL when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask
