"""Real processes of the service: the gateway alone, or `up` with its children."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.helpers.server_process import ROOT


class ServiceProcess:
    """A running `python -m service ...` that answers HTTP.

    Args:
        arguments: command and flags; `--port 0` among them.
        folder: for its stdout and stderr.
        environ: variables beside those of this process.
        module: what is run; `service`, or a module that runs it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environ: Mapping[str, str] | None = None,
        *,
        module: str = "service",
    ) -> None:
        self.started_at = time.monotonic()
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FOVEA_")}
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env={**environment, **(environ or {})},
            )

    @property
    def output(self) -> str:
        """Its output so far."""
        return self._stdout.read_text()

    @property
    def log(self) -> str:
        """Its log so far, its children's included."""
        return self._stderr.read_text()

    def wait_for_url(self, *, timeout_s: float = 120.0) -> str:
        """Return where it listens, once /healthz answers there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"listening on (http://\S+),", self.log)
            if found and fetch(found[1] + "/healthz") is not None:
                return found[1]
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"the service did not start:\n{self.output}\n{self.log}")

    def wait_until_ready(self, url: str, *, timeout_s: float = 120.0) -> None:
        """Wait for /readyz to say yes."""
        deadline = time.monotonic() + timeout_s
        reply: Any = None
        while time.monotonic() < deadline and self.process.poll() is None:
            reply = fetch(url + "/readyz")
            if reply is not None and reply.status_code == 200:
                return
            time.sleep(0.05)
        raise TimeoutError(f"{reply and reply.text}\n{self.log}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, *, timeout_s: float = 120.0) -> int:
        """Return the exit status; a process that does not end in time is killed."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def stop(self) -> int:
        """End it by SIGTERM and return its exit status."""
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(30)


@dataclass(frozen=True)
class Reply:
    """The answer to a request."""

    status_code: int
    text: str

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.text)


def fetch(url: str, *, timeout_s: float = 60.0, accept: str = "*/*") -> Reply | None:
    """Return the reply to a GET, None while nothing answers."""
    try:
        return _send("GET", url, None, timeout_s, {"accept": accept})
    except (OSError, http.client.HTTPException):
        return None


def wait_for_metric(url: str, text: str, *, timeout_s: float = 120.0) -> None:
    """Wait until /metrics has a line that starts so."""
    deadline = time.monotonic() + timeout_s
    while (reply := fetch(url + "/metrics")) is None or not any(
        line.startswith(text) for line in reply.text.splitlines()
    ):
        assert time.monotonic() < deadline, f"{text!r} did not appear"
        time.sleep(0.02)


def in_flight(url: str) -> int:
    """Return how many requests a gateway is answering beside the one that asks."""
    reply = fetch(url + "/metrics")
    assert reply is not None
    return next(
        int(float(line.split()[1])) - 1
        for line in reply.text.splitlines()
        if line.startswith("fovea_requests_in_flight")
    )


def wait_until_draining(url: str, *, timeout_s: float = 120.0) -> None:
    """Wait until a gateway that was told to stop says so."""
    deadline = time.monotonic() + timeout_s
    while (reply := fetch(url + "/readyz")) is None or "draining" not in reply.text:
        assert time.monotonic() < deadline, "the gateway does not drain"
        time.sleep(0.02)


def predict(url: str, image: bytes, *, timeout_s: float = 120.0, **params: Any) -> Reply:
    """Post one image."""
    return _send("POST", f"{url}/v1/predict?{urlencode(params)}", image, timeout_s)


def _send(
    method: str, url: str, body: bytes | None, timeout_s: float, headers: Mapping[str, str] | None = None
) -> Reply:
    """Send one request on a connection of its own; light, since it is called in loops."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers or {})
        reply = connection.getresponse()
        return Reply(reply.status, reply.read().decode())
    finally:
        connection.close()


def probe(code: str) -> dict[str, Any]:
    """Run code in a fresh interpreter and return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
