"""Hours of work in minutes: clients all the time, a new version every few seconds, and one fault after the other.

Two gateways in front of one model server, each a process, the first of them behind a wire that can be cut. Clients send
pictures whose answers they know; one whose gateway is gone asks the other. Nothing may be lost, no answer be wrong, and
resident memory must stay where it is: it is watched once the faults that end processes, which all come in the first
fifth of the time, are over.

    python -m benchmarks soak                  half an hour
    python -m benchmarks soak --size quick     a minute
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._load import resident_bytes
from benchmarks.load.recorder import percentile
from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess, fetch
from tests.helpers.server_process import ROOT, ServerProcess, start_server
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.helpers.traffic import Ledger, traffic, wait_until
from tests.helpers.wire import Wire

_DURATIONS_S = {"quick": 60.0, "standard": 1800.0, "full": 7200.0}
_DEADLY_SHARE = 0.2  # of the time, at its beginning, in which processes are killed
_NUM_CLIENTS = 4
_PAUSE_S = 0.02  # between a client's requests
_STALL_S = 0.5
_QUIET_S = 1.5  # between two events
_VARIANTS = ("permuted", "small", "plain")
_RETRIES = ("--max_num_load_retries=1", "--load_retry_interval_micros=200000")


def run(size: str = "standard") -> dict[str, Any]:
    """Run it and say what clients saw; see the module."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name, _Site(Path(name)) as site:
        began = time.monotonic()
        with traffic(*site.urls, num_clients=_NUM_CLIENTS, pause_s=_PAUSE_S) as seen:
            _kill(site, until=began + _DEADLY_SHARE * _DURATIONS_S[size])
            with _watched(site) as memory:
                _disturb(site, until=began + _DURATIONS_S[size])
        return {"duration_s": round(time.monotonic() - began), **_summarize(site, seen, memory)}


def _kill(site: _Site, *, until: float) -> None:
    """Kill processes in turn, each at least once."""
    deadly = (site.kill_model_server, site.kill_gateway)
    for number, event in enumerate(itertools.cycle(deadly)):
        if number >= len(deadly) and time.monotonic() >= until:
            return
        site.cause(event)
        site.cause(site.publish)


def _disturb(site: _Site, *, until: float) -> None:
    """Cause everything else in turn, each at least once."""
    gentle = (site.publish, site.stall, site.publish, site.cut, site.publish_corrupt, site.publish, site.roll_back)
    for number, event in enumerate(itertools.cycle(gentle)):
        if number >= len(gentle) and time.monotonic() >= until:
            return
        site.cause(event)


def _summarize(site: _Site, seen: Ledger, memory: dict[str, list[int]]) -> dict[str, Any]:
    during = [latency for at, latency in seen.latencies if any(begin <= at <= end for begin, end in site.reloads)]
    steady = [latency for at, latency in seen.latencies if not any(b <= at <= e for b, e in site.disturbances)]
    return {
        "requests": sum(seen.replies.values()),
        "images_answered": seen.answers.total(),
        "wrong": len(seen.wrong),
        "lost": len(seen.lost),
        "refused_without_retry_after": seen.no_retry_after,
        "asked_the_other_gateway": seen.moved.total(),
        "counters_differ_by": site.compare_counters(seen),
        "statuses": {str(status): count for status, count in sorted(seen.statuses.items())},
        "error_codes": dict(sorted(seen.codes.items())),
        "events": dict(site.events),
        "resident_mb": {name: [round(value / 1e6, 1) for value in _thin(values)] for name, values in memory.items()},
        **{f"{name}_growth_mb": round(_growth(values) / 1e6, 1) for name, values in memory.items()},
        "p99_steady_ms": round(1e3 * percentile(sorted(steady), 99), 1),
        "p99_during_reloads_ms": round(1e3 * percentile(sorted(during), 99), 1),
        "first_wrong": seen.wrong[:3] + seen.lost[:3],
    }


def _growth(values: list[int]) -> float:
    """Return by how much the median of the last third is above that of the first."""
    third = max(1, len(values) // 3)
    return statistics.median(values[-third:]) - statistics.median(values[:third])


def _thin(values: list[int], count: int = 20) -> list[int]:
    return values[:: max(1, len(values) // count)]


@contextlib.contextmanager
def _watched(site: _Site) -> Iterator[dict[str, list[int]]]:
    """Note the resident memory of the model server and the first gateway once a second while the block runs."""
    enough = threading.Event()
    memory: dict[str, list[int]] = {"modelserver": [], "gateway": []}

    def watch() -> None:
        while not enough.wait(1.0):
            memory["modelserver"].append(resident_bytes(site.server.pid))
            memory["gateway"].append(resident_bytes(site.gateways[0].process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        enough.set()
        thread.join()


@dataclass
class _Site:
    """The processes, and what can be done to them.

    Attributes:
        events: how often each was caused.
        reloads: when versions were loaded: from the publish until they were available, by the monotonic clock.
        disturbances: when anything was done at all.
    """

    folder: Path
    events: Counter[str] = field(default_factory=Counter)
    reloads: list[tuple[float, float]] = field(default_factory=list)
    disturbances: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> _Site:
        with contextlib.ExitStack() as stack:
            self._models = self.folder / "tiny"
            command = [sys.executable, "-m", "tests.helpers.tiny_model", str(self._models)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
            self._store = ModelStore(self.folder / "models")
            publish_variant(self._store, self._models / "plain")
            self._kinds = itertools.cycle(_VARIANTS)
            self._count = itertools.count()
            self.server = self._start_model_server()
            stack.callback(lambda: self.server.stop())
            self._wire = stack.enter_context(Wire(self.server.address))
            self.gateways: list[ServiceProcess] = []
            stack.callback(lambda: [gateway.stop() for gateway in self.gateways])
            self.urls = [self._start_gateway(self._wire.address), self._start_gateway(self.server.address)]
            self._leave = stack.pop_all().close
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def cause(self, event: Callable[[], None]) -> None:
        """Do something, wait until all is well again, and a moment longer."""
        self.events[event.__name__] += 1
        began = time.monotonic()
        event()
        self.disturbances.append((began, time.monotonic()))
        time.sleep(_QUIET_S)

    def publish(self) -> None:
        """Publish the next kind of version and wait until both gateways answer with it."""
        began = time.monotonic()
        version = publish_variant(self._store, self._models / next(self._kinds))
        self._wait_for(version)
        self.reloads.append((began, time.monotonic()))
        self._prune()

    def publish_corrupt(self) -> None:
        """Publish a version that cannot be loaded, see the old one go on, and roll back."""
        (serving,) = self._serving(self.urls[0]).values()
        with self._store.staging() as directory:
            shutil.copytree(self._models / "plain", directory, dirs_exist_ok=True)
            (directory / "saved_model.pb").write_bytes(b"\xff" * 64)
            version = self._store.publish(MODEL_NAME, directory)
        wait_until(lambda: f"{MODEL_NAME}/{version}: failed" in self.server.log.read_text())
        self._store.rollback(MODEL_NAME)
        self._wait_for(serving)

    def roll_back(self) -> None:
        """Make the previous version live."""
        live = self._store.rollback(MODEL_NAME).live
        self._wait_for(int(live or 0))

    def stall(self) -> None:
        """Let the model server stand still for a while."""
        self.server.process.send_signal(signal.SIGSTOP)
        time.sleep(_STALL_S)
        self.server.process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """Reset the first gateway's connections to the model server."""
        self._wire.reset()

    def kill_model_server(self) -> None:
        """Kill the model server and start it again."""
        self.server.process.kill()
        self.server.process.wait(60)
        self.server = self._start_model_server(f"--port={self.server.address.rpartition(':')[2]}")
        self._wait_for(int(self._store.read_index()[MODEL_NAME].live or 0))

    def kill_gateway(self) -> None:
        """Kill the second gateway and start it again."""
        port = self.urls[1].rpartition(":")[2]
        self.gateways.pop().kill()
        self._start_gateway(self.server.address, port)

    def compare_counters(self, seen: Ledger) -> int:
        """Return by how many replies the first gateway's counters differ from what clients had from it."""
        scraped = fetch(self.urls[0] + "/metrics")
        lines = [] if scraped is None else scraped.text.splitlines()
        counted = {
            int(line.partition('code="')[2][:3]): float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("fovea_requests_total") and 'route="/v1/predict"' in line
        }
        had = {status: count for (url, status), count in seen.replies.items() if url == self.urls[0]}
        return round(sum(abs(counted.get(code, 0) - had.get(code, 0)) for code in counted.keys() | had.keys()))

    def _start_model_server(self, *flags: str) -> ServerProcess:
        return start_server(self._store, self.folder / f"modelserver{next(self._count)}.log", (*_RETRIES, *flags))

    def _start_gateway(self, address: str, port: str = "0") -> str:
        folder = self.folder / f"gateway{next(self._count)}"
        folder.mkdir()
        flags = [f"--models-dir={self._store.root}", f"--backend={address}", f"--port={port}", "--poll-s=0.1"]
        self.gateways.append(ServiceProcess(["gateway", *flags], folder))
        url = self.gateways[-1].wait_for_url(timeout_s=120)
        self.gateways[-1].wait_until_ready(url)
        return url

    def _serving(self, url: str) -> dict[str, int]:
        reply = fetch(url + "/readyz")
        return {} if reply is None else reply.json().get("models", {})

    def _wait_for(self, version: int) -> None:
        wait_until(lambda: all(self._serving(url) == {MODEL_NAME: version} for url in self.urls))

    def _prune(self) -> None:
        entry = self._store.read_index()[MODEL_NAME]
        for version in self._store.read_versions(MODEL_NAME):
            if not entry.roles_of(version):
                self._store.remove(MODEL_NAME, version)
