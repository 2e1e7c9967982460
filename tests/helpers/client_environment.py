"""An environment of its own for clients whose packages contradict the project's: made once, then kept in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_INSTALL_S = 540


class ClientsUnavailableError(Exception):
    """The packages cannot be installed here; the text is pip's last line."""


def client_python(requirements: Sequence[str]) -> Path:
    """Returns the interpreter of an environment that has these packages.

    The first call installs them, which needs a package index and takes a minute; other processes wait for it.

    Raises:
        ClientsUnavailableError: if they cannot be installed.
    """
    named = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fovea-tests"
    folder, done = cache / named, cache / f"{named}.done"
    python = folder / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{named}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
            _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", *requirements])
            done.touch()
    return python


def _run(command: Sequence[str]) -> None:
    # Without the closed proxy that keeps tests off the network: pip is no test.
    environment = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired as err:
        raise ClientsUnavailableError(f"pip took longer than {_INSTALL_S} s") from err
    if ran.returncode:
        raise ClientsUnavailableError((ran.stderr.strip().splitlines() or ["pip failed"])[-1])
