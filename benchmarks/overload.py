"""More requests than can be answered: what is still answered, how fast, and how fast the rest is sent away.

The model server's capacity is set, not measured: two workers, 50 ms an image, 40 images a second. Requests arrive at
fixed moments, whether earlier ones have been answered or not, on connections that are kept.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict, deque
from typing import Any

from benchmarks._load import cpu_seconds, http_request
from benchmarks.gateway_overhead import build_jpeg, running_gateway

WORKERS = 2
SECONDS_PER_IMAGE = 0.05
CAPACITY = WORKERS / SECONDS_PER_IMAGE
FACTORS = (0.5, 1, 2, 5, 10)
DURATION_S = 12.0
WARM_UP_S = 4.0  # until the queue has its length
TIMEOUT_S = 60.0
IDLE_S = 2.0  # a connection that was not used for longer may be closed by the server at any moment


def run() -> dict[str, Any]:
    """Offer multiples of the capacity, one after the other."""
    request = http_request(build_jpeg(256))
    flags = (f"--workers={WORKERS}", f"--seconds-per-image={SECONDS_PER_IMAGE}")
    rows = []
    with running_gateway(backend_flags=flags) as (port, pid):
        for factor in FACTORS:
            start = cpu_seconds(pid)
            replies = asyncio.run(offer(port, request, rate=factor * CAPACITY))
            seconds = cpu_seconds(pid) - start
            rows.append({"offered_to_capacity": factor, **summarise(replies), "gateway_cpu_s": round(seconds, 2)})
    return {"capacity_per_s": CAPACITY, "duration_s": DURATION_S, "loads": rows}


def summarise(replies: list[tuple[float, int, float]]) -> dict[str, Any]:
    """Return goodput and latencies of the replies to requests that were sent after the warm-up.

    Args:
        replies: when each was asked for, seconds from the start; its status, 0 without one; its latency, seconds.
    """
    latencies: dict[int, list[float]] = defaultdict(list)
    for asked, status, latency in replies:
        if asked >= WARM_UP_S:
            latencies[status].append(1e3 * latency)
    answered, shed = latencies[200], latencies[503]
    return {
        "statuses": {str(status): len(values) for status, values in sorted(latencies.items()) if values},
        "goodput_to_capacity": round(len(answered) / (DURATION_S - WARM_UP_S) / CAPACITY, 3),
        "answered_p50_ms": percentile(answered, 50),
        "answered_p99_ms": percentile(answered, 99),
        "refused_p50_ms": percentile(shed, 50),
        "refused_p99_ms": percentile(shed, 99),
    }


def percentile(values: list[float], percent: int) -> float | None:
    """Return a percentile, None of nothing."""
    return round(statistics.quantiles(values, n=100)[percent - 1], 1) if len(values) > 1 else None


async def offer(port: int, request: bytes, *, rate: float) -> list[tuple[float, int, float]]:
    """Send requests at a rate; return when each was sent, its status and its latency, seconds."""
    idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()
    replies: list[tuple[float, int, float]] = []
    begin = time.perf_counter()

    async def ask() -> None:
        start = time.perf_counter()
        while idle and start - idle[0][0] > IDLE_S:
            idle.popleft()[2].close()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = idle.pop()[1:] if idle else await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
            status = int(head.split(b" ", 2)[1])
            idle.append((time.perf_counter(), reader, writer))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        replies.append((start - begin, status, time.perf_counter() - start))

    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * DURATION_S)):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            group.create_task(ask())
    for _, _, writer in idle:
        writer.close()
    return replies
