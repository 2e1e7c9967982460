"""Asks a gateway during a trial, and reads what it says of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.helpers.pictures import encode

NAME = "colours"
PATIENCE_S = 120.0


def answering(
    client: TestClient, *, path: str = "/v1/predict", headers: dict[str, str] | None = None, **query: Any
) -> int:
    """Return the version that answers."""
    reply = client.post(path, params=query, headers=headers, content=encode("red"))
    assert 200 == reply.status_code, reply.text
    return int(reply.json()["model"]["version"])


def read_metric(client: TestClient, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    found = [s.value for s in samples if labels.items() <= s.labels.items()]
    return sum(found)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: naming it.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


def wait_for_share(client: TestClient, kind: str, share: float | None) -> None:
    """Wait until the gateway has read a share from the index; None: that there is no trial."""

    def is_read() -> bool:
        client.get("/v1/models")  # reads the index when it is due
        families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [s for family in families for s in family.samples if s.name == "fovea_trial_share"]
        found = [s.value for s in samples if s.labels["kind"] == kind]
        return found == ([] if share is None else [share])

    wait_for(is_read, f"{kind} {share}")
