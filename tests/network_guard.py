"""Keeps tests off the network: a pytest plugin, loaded by `-p tests.network_guard` in pyproject.toml.

Python's audit events see every socket call of this process before it happens, whatever library makes it. Loopback and
Unix sockets pass. Processes that tests start inherit a proxy on a closed port, so that a download fails at once
instead of leaving the machine. Tests marked `docker` build images, in the engine's process; nothing here hinders them.

`make coverage` on Python 3.11 goes without the audit hook. `sys.settrace` raises an audit event there while it holds a
process-wide flag. A hook written in Python lets another thread in at that point, whose own `sys.settrace` then raises
"Cannot install a trace function while another trace function is being installed". coverage sets one trace function a
thread. `make test` runs the same tests with the hook.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

import pytest

LOOPBACK_NAMES = frozenset({"localhost", "", None})
CLOSED_PROXY = "http://127.0.0.1:9"  # the discard port, where nothing listens


class NetworkBlockedError(RuntimeError):
    """A test tried to leave the machine."""


def pytest_configure(config: pytest.Config) -> None:
    """Install the guard before anything is collected."""
    if not traces_threads(config):
        sys.addaudithook(_refuse_remote)
    for name in ("http_proxy", "https_proxy"):
        os.environ[name] = os.environ[name.upper()] = CLOSED_PROXY
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"


def traces_threads(config: pytest.Config) -> bool:
    """Return whether coverage sets trace functions in threads on a Python whose `sys.settrace` bears no audit hook."""
    return sys.version_info < (3, 12) and config.getoption("cov_source", default=[]) != []


def _refuse_remote(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # Unix sockets have a path
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not is_local(host):
        raise NetworkBlockedError(f"tests use loopback only. Received: {event} to {host!r}")


def is_local(host: str | bytes | None) -> bool:
    """Return whether a host is this machine: a loopback name or address, a wildcard to bind, or none."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in LOOPBACK_NAMES:
        return True
    try:
        address = ipaddress.ip_address(str(name))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
