"""Measures the growth of the gateway's resident memory over many requests, after a warm-up."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks._load import http_request, post_many, resident_bytes
from benchmarks.gateway_overhead import build_jpeg, running_gateway

WARM_UP = 4000
STEPS = 10
REQUESTS_A_STEP = 2000
CONCURRENCY = 8


def run() -> dict[str, Any]:
    """Send requests, note the resident memory after each step, fit a line."""
    request = http_request(build_jpeg(512))
    with running_gateway() as (port, pid):
        post_many(port, request, count=WARM_UP, concurrency=CONCURRENCY)
        resident = [resident_bytes(pid)]
        for _ in range(STEPS):
            post_many(port, request, count=REQUESTS_A_STEP, concurrency=CONCURRENCY)
            resident.append(resident_bytes(pid))
    slope, _ = statistics.linear_regression(range(len(resident)), resident)
    return {
        "warm_up_requests": WARM_UP,
        "requests": STEPS * REQUESTS_A_STEP,
        "resident_mb": [round(value / 1e6, 2) for value in resident],
        "growth_mb_per_10000": round(slope * 10_000 / REQUESTS_A_STEP / 1e6, 3),
    }
