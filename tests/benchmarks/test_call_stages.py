"""Stages of a call, read from the metrics of a real gateway's and a real model server's registry."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from benchmarks.systems.call_stages import read_totals, split_call
from service.gateway.telemetry.metrics import Metrics as GatewayMetrics
from service.modelserver.monitoring import Metrics as ServerMetrics
from service.modelserver.serving.scheduling import BatchRecord
from service.modelserver.serving.versions import ServedVersion


def test_the_parts_of_a_call_add_up() -> None:
    """Calls before the first reading, and calls that are no predictions, are in none of them."""
    gateway, server = GatewayMetrics(), ServerMetrics()

    def read() -> dict[str, tuple[float, float]]:
        return read_totals([gateway.expose().decode(), generate_latest(server.registry).decode()])

    count_call(gateway, server, run_s=9.0)
    before = read()
    for _ in range(2):
        count_call(gateway, server, run_s=0.02)
    gateway.count_request("/readyz", "GET", code=200, seconds=5.0)
    parts = split_call(before, read(), client_ms=50.0)
    assert sum(parts.values()) == pytest.approx(50.0)
    assert parts["model server: inference"] == pytest.approx(20.0)
    assert parts["model server: waking the thread that runs"] == pytest.approx(1.0)
    assert parts["client, kernel and HTTP"] == pytest.approx(10.0)
    assert parts["gateway: decoding"] >= 2.0


def count_call(gateway: GatewayMetrics, server: ServerMetrics, *, run_s: float) -> None:
    """Count one call: 40 ms in the gateway, of which at least 2 ms are decoding; a millisecond of waiting."""
    for stage in ("read", "queue", "model", "encode"):
        with gateway.stage(stage):
            pass
    with gateway.stage("decode"):
        time.sleep(0.002)
    gateway.count_request("/v1/predict", "POST", code=200, seconds=0.04)
    with server.call() as labels:
        labels.model, labels.version = "eyes", "1"
    server.count_batch(ServedVersion("eyes", 1, Path()), BatchRecord("serving_default", [0.001], 1, run_s))
