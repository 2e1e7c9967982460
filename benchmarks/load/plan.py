"""Describes one load: requests, concurrency and duration."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Payload:
    """One request.

    Attributes:
        path: of the URL, with its query; for gRPC the method, such as "/tensorflow.serving.PredictionService/Predict".
        body: file that holds the body's bytes.
        headers: beside Host and Content-Length.
    """

    path: str
    body: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A closed loop: each of `concurrency` callers sends, waits for the answer, and sends again.

    Attributes:
        address: host:port, or for gRPC also unix:/path.
        payloads: callers take them in turn.
        concurrency: callers; each has a connection of its own (for gRPC, a call on one shared channel).
        seconds: at least how long is measured.
        warm_up_s: before that.
        expect: text without spaces that an answer must hold, its own spaces left out, to count as right.
        timeout_s: after which an answer no longer counts and its connection is dropped.
        groups: process ids by name, whose CPU seconds in the window are told.
        protocol: "http" or "grpc".
    """

    address: str
    payloads: tuple[Payload, ...]
    concurrency: int
    seconds: float
    warm_up_s: float = 1.0
    expect: str = ""
    timeout_s: float = 30.0
    groups: dict[str, list[int]] = field(default_factory=dict)
    protocol: str = "http"

    def to_json(self) -> str:
        """Return the plan as `python -m benchmarks.load` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that `to_json` wrote."""
        document: dict[str, Any] = json.loads(text)
        payloads = tuple(Payload(**payload) for payload in document.pop("payloads"))
        return cls(payloads=payloads, **document)


def read_body(payload: Payload) -> bytes:
    """Return a payload's body."""
    return Path(payload.body).read_bytes()
