"""Connects to a Ray cluster, or starts one on loopback. Tokens are required wherever others can reach it."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.commands import DISTRIBUTION
from pipeline.errors import PipelineError

AUTH_MODE, TOKEN = "RAY_AUTH_MODE", "token"
_TOKENS = f"Set {AUTH_MODE}={TOKEN} and RAY_AUTH_TOKEN_PATH"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_OBJECT_STORE_BYTES = 80_000_000  # units are lists of paths; Ray wants 75 MB at least
_CONNECT_S = 5.0
# Ray's sockets lie in its folder, and their paths have at most 107 bytes.
_LONGEST_FOLDER = 40


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        ray: the package.
        num_cpus: of all nodes.
        is_loopback: whether all nodes are on this machine's loopback.
    """

    ray: Any
    num_cpus: int
    is_loopback: bool


def check_ray() -> None:
    """Refuse to go on without Ray; nothing is imported.

    Raises:
        PipelineError: with the pip command.
    """
    if importlib.util.find_spec("ray") is None:
        raise PipelineError(
            f"--executor ray needs ray, which is not installed: pip install '{DISTRIBUTION}[pipeline,tensorflow,ray]'"
        )


def check_address(address: str) -> None:
    """Refuse an address that is none, and one beyond this machine without a token.

    Raises:
        PipelineError: naming what is missing.
    """
    host, _ = _split(address)
    if not _is_loopback(host) and os.environ.get(AUTH_MODE) != TOKEN:
        raise _no_token(f"{host} is not this machine")


@contextmanager
def open_cluster(address: str | None, num_cpus: int) -> Iterator[Cluster]:
    """Connect to a cluster, or start one with a token of its own on loopback, which ends with this process.

    Args:
        address: HOST:PORT of the head; None starts a cluster.
        num_cpus: of a cluster that is started.

    Raises:
        PipelineError: if it cannot be reached or started, or others can reach it without a token.
    """
    check_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Ray's switch for desktops: nodes listen on loopback alone.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.update({AUTH_MODE: TOKEN, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
        os.environ.pop("RAY_ADDRESS", None)
        folder: Any = tempfile.TemporaryDirectory(prefix="ray-", dir=_short_folder(), ignore_cleanup_errors=True)
    else:
        check_address(address)
        _check_reachable(address)
        folder = nullcontext()
    import ray

    with folder as path, redirect_stdout(sys.stderr):  # Ray prints deaths of nodes
        own = {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        options = {"address": address} if address else {**own, "_temp_dir": path}
        try:
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
        except Exception as err:  # Ray raises errors of many kinds, by version and by cause
            what = f"the Ray cluster at {address} cannot be used" if address else "no Ray cluster can be started"
            hint = f". If it requires a token: {_TOKENS} here" if address else ""
            raise PipelineError(f"{what}: {' '.join(str(err).split())}{hint}") from err
        try:
            hosts = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            is_loopback = all(map(_is_loopback, hosts))
            if not is_loopback and os.environ.get(AUTH_MODE) != TOKEN:
                raise _no_token(_first_remote(hosts))
            yield Cluster(ray, max(1, int(ray.cluster_resources().get("CPU", 1))), is_loopback)
        finally:
            ray.shutdown()


def no_token_of_cluster() -> PipelineError:
    """Return the error for a cluster whose nodes take connections without a token."""
    return _no_token("its nodes take connections without one")


def _no_token(reason: str) -> PipelineError:
    return PipelineError(
        f"--address: expected a Ray cluster with tokens, because {reason}. {_TOKENS} on all nodes and here"
    )


def _first_remote(hosts: Sequence[str]) -> str:
    return f"its node {next(host for host in hosts if not _is_loopback(host))} listens beyond loopback"


def _check_reachable(address: str) -> None:
    """Fail at once where Ray would try for minutes."""
    host, port = _split(address)
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as err:
        raise PipelineError(
            f"--address: the Ray cluster at {address} cannot be reached: {err.strerror or err}"
        ) from err


def _split(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise PipelineError(
            f"--address: expected HOST:PORT of the cluster's head, such as 10.0.0.1:6379. Received: {address}"
        )
    return found[1].strip("[]"), int(found[2])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _short_folder() -> Path | None:
    """Return the folder for Ray's files: TMPDIR, or /tmp where its name is too long for sockets."""
    return None if len(tempfile.gettempdir()) <= _LONGEST_FOLDER - len("/ray-12345678") else Path("/tmp")
