"""Describes one measured system: its programs, its address and its requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.plan import Payload
from benchmarks.systems.bodies import Wrap, raw


@dataclass(frozen=True)
class Place:
    """The folders that a system may write to.

    Attributes:
        folder: for sockets and logs; its own.
        port: free TCP port for HTTP.
        metrics_port: another one, for metrics.
        workload: what `python -m benchmarks.workload` wrote.
    """

    folder: Path
    port: int
    metrics_port: int
    workload: Path


def read_flat(reply: Any) -> tuple[int, float]:
    """Return index and probability as the peers' servers name them."""
    return reply["index"], reply["probability"]


def listens_on_port(place: Place) -> str:
    """Return host:port."""
    return f"127.0.0.1:{place.port}"


@dataclass(frozen=True)
class System:
    """Starts one system and builds its requests.

    Attributes:
        name: in results.
        title: in tables.
        commands: given a place, the programs to start, by the name under which their CPU is told.
        path: where pictures are posted; for gRPC the method.
        wrap: a picture to a body.
        read: a reply (HTTP: its JSON, gRPC: its bytes) to class index and probability.
        ready: path that answers 200 once the system is ready; None where only an answer shows it.
        address: where it is asked, given the place.
        protocol: "http" or "grpc".
        environment: variables for its programs.
        directory: where they run; None for the project's root.
        checked: whether its answers must be the network's; not so where nothing computes.
        names_index: how its replies name the class index, with {} for the number; what does not hold it is no answer.
            Empty where replies are not text.
        metrics: given a place, URLs of metrics by which `stages` can tell where the time of a call goes.
        polls: whether it computes without requests, so that it must be stopped while another system is measured.
        untold: programs whose CPU means nothing, such as a client of another server that does the work.
    """

    name: str
    title: str
    commands: Callable[[Place], Mapping[str, list[str]]]
    path: str = "/predict"
    wrap: Wrap = raw
    read: Callable[[Any], tuple[int, float]] = read_flat
    ready: str | None = None
    address: Callable[[Place], str] = listens_on_port
    protocol: str = "http"
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    checked: bool = True
    names_index: str = ""
    metrics: Callable[[Place], Sequence[str]] = lambda _: ()
    polls: bool = False
    untold: tuple[str, ...] = ()

    def expects(self, index: int) -> str:
        """Return what every answer to the picture holds, by its class index."""
        return self.names_index.format(index) if self.checked else ""

    def payload(self, picture: Path, folder: Path, *, copies: int = 1, path: str | None = None) -> Payload:
        """Wrap a picture, or `copies` of it; the body becomes a file in `folder`."""
        body, headers = self.wrap(picture.read_bytes(), copies)
        file = folder / f"{picture.stem}-{copies}.body"
        file.write_bytes(body)
        return Payload(path or self.path, str(file), headers)
