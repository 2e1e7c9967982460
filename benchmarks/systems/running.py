"""A system while it runs: started, asked for the right answer, measured, stopped."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from benchmarks.load.plan import Payload, Plan
from benchmarks.systems.call_stages import read_totals
from benchmarks.systems.program import Program, free_port, wait_until
from benchmarks.systems.system import Place, System

_START_TIMEOUT_S = 300.0
_ANSWER_TIMEOUT_S = 60.0
_TOLERANCE = 0.05  # of the probability: decoders and precisions differ, another picture or network would by more
_ERROR_CHARACTERS = 2000
MAX_FAILURES = 2  # of a system, before a run goes on without it

_LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names


class BrokenSystemError(Exception):
    """A system did not start, or answers wrongly; the text says which."""


# By which a system fails, and not the run.
FAILURES = (BrokenSystemError, subprocess.SubprocessError, OSError, ValueError)


def failure_text(err: Exception) -> str:
    """Return what results tell of a failure."""
    return str(err)[-_ERROR_CHARACTERS:]


class Running:
    """A started system.

    Args:
        system: what was started.
        place: where.
        programs: its programs, by name.

    Attributes:
        start_s: seconds until it gave the right answer.
    """

    def __init__(self, system: System, place: Place, programs: Mapping[str, Program]) -> None:
        self.system = system
        self.place = place
        self.start_s = 0.0
        self._programs = programs

    @property
    def address(self) -> str:
        """The address of the system."""
        return self.system.address(self.place)

    def groups(self) -> dict[str, list[int]]:
        """Return the process ids of each program."""
        return {name: program.pids() for name, program in self._told().items()}

    def memory_mb(self) -> dict[str, float]:
        """Return the memory of each program, megabytes."""
        return {name: round(program.memory_mb(), 1) for name, program in self._told().items()}

    def plan(self, *, concurrency: int, seconds: float, warm_up_s: float) -> Plan:
        """Return a load of callers that send the picture and expect its class."""
        return Plan(
            self.address,
            (self.system.payload(self.place.workload / "picture.jpg", self.place.folder),),
            concurrency=concurrency,
            seconds=seconds,
            warm_up_s=warm_up_s,
            expect=self.system.expects(_expected(self.place.workload)["index"]),
            groups=self.groups(),
            protocol=self.system.protocol,
        )

    def call_totals(self) -> dict[str, tuple[float, float]]:
        """Return what its metrics have counted; nothing for a system that has none.

        Raises:
            OSError: if they cannot be read.
        """
        return read_totals(map(_get, self.system.metrics(self.place)))

    def _told(self) -> dict[str, Program]:
        return {name: program for name, program in self._programs.items() if name not in self.system.untold}

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """While the block runs, nothing of a system that polls computes."""
        polling = [*self._programs.values()] if self.system.polls else []
        try:
            for program in polling:
                program.pause()
            yield
        finally:
            for program in polling:
                program.resume()

    def has_ended(self) -> bool:
        """True if one of its programs is gone."""
        return any(program.has_ended for program in self._programs.values())

    def logs(self) -> str:
        """Return the end of what its programs have printed."""
        return "\n".join(program.log_tail() for program in self._programs.values())

    def ask(self, payload: Payload) -> Any:
        """Send one request and return the reply: HTTP's JSON, gRPC's bytes.

        Raises:
            OSError: if nothing answers, or the answer is an error.
        """
        body = Path(payload.body).read_bytes()
        if self.system.protocol == "grpc":
            with grpc.insecure_channel(self.address) as channel:
                try:
                    return channel.unary_unary(payload.path)(body, timeout=_ANSWER_TIMEOUT_S)
                except grpc.RpcError as err:
                    raise OSError(str(err)) from err
        request = urllib.request.Request(f"http://{self.address}{payload.path}", body, dict(payload.headers))
        with _LOOPBACK.open(request, timeout=_ANSWER_TIMEOUT_S) as reply:
            return json.loads(reply.read())

    def is_ready(self, payload: Payload) -> bool:
        """True if the system says that it is ready, or answers where it cannot say so."""
        try:
            if self.system.ready is None:
                self.ask(payload)
                return True
            url = f"http://127.0.0.1:{self.place.port}{self.system.ready}"
            with _LOOPBACK.open(url, timeout=5) as reply:
                return bool(reply.status == 200)
        except (OSError, ValueError):
            return False


def _get(url: str) -> str:
    with _LOOPBACK.open(url, timeout=_ANSWER_TIMEOUT_S) as reply:
        text: str = reply.read().decode()
    return text


def _expected(workload: Path) -> dict[str, Any]:
    """Return `index` and `probability` of the class that every checked answer names."""
    expected: dict[str, Any] = json.loads((workload / "expected.json").read_text())
    return expected


@contextlib.contextmanager
def started(system: System, workload: Path, folder: Path) -> Iterator[Running]:
    """Start a system, wait until it gives the right answer, and stop it afterwards.

    Args:
        system: which.
        workload: what `python -m benchmarks.workload` wrote.
        folder: for its sockets and logs; is made.

    Raises:
        BrokenSystemError: if it does not start in time, or answers wrongly.
    """
    folder.mkdir(parents=True)
    place = Place(folder, free_port(), free_port(), workload)
    programs: dict[str, Program] = {}
    running = Running(system, place, programs)
    began = time.monotonic()
    try:
        for name, command in system.commands(place).items():
            log = folder / f"{name}.log"
            programs[name] = Program(command, log, environment=system.environment, directory=system.directory)
        _wait_for_answer(running, system.payload(workload / "picture.jpg", folder))
        running.start_s = time.monotonic() - began
        yield running
    finally:
        for program in reversed(programs.values()):
            program.stop()


def _wait_for_answer(running: Running, payload: Payload) -> None:
    system = running.system
    came_up = wait_until(lambda: running.has_ended() or running.is_ready(payload), timeout_s=_START_TIMEOUT_S)
    if not came_up or running.has_ended():
        raise BrokenSystemError(f"{system.name} did not start:\n{running.logs()}")
    try:
        index, probability = system.read(running.ask(payload))
    except (OSError, ValueError, LookupError, TypeError) as err:
        raise BrokenSystemError(f"{system.name} does not answer: {err}\n{running.logs()}") from err
    expected = _expected(running.place.workload)
    if system.checked and (index != expected["index"] or abs(probability - expected["probability"]) > _TOLERANCE):
        received = f"class {index}, probability {probability}"
        raise BrokenSystemError(f"{system.name}: expected {expected}. Received: {received}")
