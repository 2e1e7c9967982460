"""A real model server in its own process, on any free port."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.store import CONTAINER_ROOT, ModelStore

ROOT = Path(__file__).resolve().parents[2]
_LISTENING = re.compile(r"listening on (\S+)")


@dataclass
class ServerProcess:
    """A running `python -m service.modelserver`.

    Attributes:
        process: the child.
        address: as gRPC clients take it.
        log: file that its stderr goes to.
        store: what it serves.
    """

    process: subprocess.Popen[bytes]
    address: str
    log: Path
    store: ModelStore

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, *, timeout_s: float = 120.0) -> int:
        """Ask it to stop, by SIGTERM, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout_s)
            raise


def start_server(store: ModelStore, log: Path, flags: Sequence[str] = ()) -> ServerProcess:
    """Start a model server that follows a store, and wait until it listens.

    Args:
        store: need not exist yet.
        log: file for its stderr.
        flags: further flags; unless one of them says otherwise it takes a free TCP port.
    """
    command = [sys.executable, "-m", "service.modelserver"]
    command += [f"--model_config_file={store.config_path}", f"--path-map={CONTAINER_ROOT}={store.root}"]
    command += ["--model_config_file_poll_wait_seconds=0.1", "--file_system_poll_wait_seconds=0.1"]
    command.append(f"--tuning_cache={store.root.parent / 'tuning'}")
    if not any(flag.startswith(("--port", "--grpc_socket_path")) for flag in flags):
        command.append("--port=0")
    process = run_server([*command, *flags], log)
    return ServerProcess(process, wait_for_address(process, log), log, store)


def scrape(server: ServerProcess) -> dict[str, float]:
    """Return the metrics by series; the server needs `--monitoring_port`."""
    found = re.search(r"metrics on http://(\S+)/metrics", server.log.read_text())
    if found is None:
        raise RuntimeError(f"the model server shows no metrics:\n{server.log.read_text()}")
    connection = http.client.HTTPConnection(found[1], timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def run_server(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in the project's root with stderr in a file."""
    with log.open("wb") as stderr:
        return subprocess.Popen(list(command), stdout=stderr, stderr=stderr, cwd=ROOT, env=os.environ.copy())


def wait_for_address(process: subprocess.Popen[bytes], log: Path, *, timeout_s: float = 120.0) -> str:
    """Return the address that a server logs.

    Raises:
        RuntimeError: if it ends before it listens, or takes too long; its log is in the message.
    """
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        found = _LISTENING.search(log.read_text())
        if found:
            return found.group(1)
        time.sleep(0.02)
    process.kill()
    process.wait(timeout_s)
    raise RuntimeError(f"the model server did not start:\n{log.read_text()}")
