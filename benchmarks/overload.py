"""More requests than can be answered: what is still answered, how fast, and how fast the rest is sent away.

The model server's capacity is set, not measured: two workers, 50 ms an image, 40 images a second. Requests arrive as
those of people who do not know of each other do, at random moments, whether earlier ones have been answered or not, on
connections that are kept. At 0.8 of the capacity every request is answered; the latencies of the other loads are held
against the 99th percentile there. That load lasts longer than the others: queues come and go slowly, and of minutes at
0.8 one in ten has a 99th percentile below 4.3 or above 8.0 times an image's time, by theory, where hours have 6.0.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import defaultdict, deque
from typing import Any, NamedTuple

from benchmarks._load import cpu_seconds, http_request
from benchmarks.gateway_overhead import build_jpeg, running_gateway

WORKERS = 2
SECONDS_PER_IMAGE = 0.05
CAPACITY = WORKERS / SECONDS_PER_IMAGE
REFERENCE = 0.8
FACTORS = (REFERENCE, 1, 2, 5, 10)
WARM_UP_S = 3.0  # until the queue has its length
TIMEOUT_S = 60.0
REFERENCE_TURNS = 5  # times as long as another load
IDLE_S = 2.0  # a connection that was not used for longer may be closed by the server at any moment
_DURATIONS_S = {"quick": 4.0, "standard": 60.0, "full": 180.0}  # of a load, after the warm-up


class Reply(NamedTuple):
    """The outcome of one request.

    Attributes:
        asked_s: when it was sent, seconds from the start.
        status: of HTTP; 0 if there was no whole reply in time.
        latency_s: until its reply, seconds.
        may_retry: whether the reply says when to try again.
    """

    asked_s: float
    status: int
    latency_s: float
    may_retry: bool


def run(size: str = "standard") -> dict[str, Any]:
    """Offer multiples of the capacity, one after the other."""
    request = http_request(build_jpeg(256))
    flags = (f"--workers={WORKERS}", f"--seconds-per-image={SECONDS_PER_IMAGE}")
    rows: list[dict[str, Any]] = []
    with running_gateway(backend_flags=flags) as (port, pid):
        for factor in FACTORS:
            duration_s = _DURATIONS_S[size] * (REFERENCE_TURNS if factor == REFERENCE else 1)
            start = cpu_seconds(pid)
            replies = asyncio.run(offer(port, request, rate=factor * CAPACITY, duration_s=WARM_UP_S + duration_s))
            seconds = cpu_seconds(pid) - start
            row = {"offered_to_capacity": factor, **summarise(replies, duration_s), "gateway_cpu_s": round(seconds, 2)}
            reference = (rows[0] if rows else row)["answered_p99_ms"]
            rows.append({**row, "answered_p99_to_reference": round(row["answered_p99_ms"] / reference, 2)})
    return {
        "capacity_per_s": CAPACITY,
        "duration_s": _DURATIONS_S[size],
        "reference_load": REFERENCE,
        "worst_p99_to_reference": max(row["answered_p99_to_reference"] for row in rows),
        "refused_without_retry_after": sum(row["refused_without_retry_after"] for row in rows),
        "without_reply": sum(row["statuses"].get("0", 0) for row in rows),
        "loads": rows,
    }


def summarise(replies: list[Reply], duration_s: float) -> dict[str, Any]:
    """Return goodput and latencies of the replies to requests that were sent after the warm-up."""
    latencies: dict[int, list[float]] = defaultdict(list)
    counted = [reply for reply in replies if reply.asked_s >= WARM_UP_S]
    for reply in counted:
        latencies[reply.status].append(1e3 * reply.latency_s)
    answered, shed = latencies[200], latencies[503] + latencies[429]
    return {
        "statuses": {str(status): len(values) for status, values in sorted(latencies.items()) if values},
        "refused_without_retry_after": sum(reply.status in (429, 503) and not reply.may_retry for reply in counted),
        "goodput_to_capacity": round(len(answered) / duration_s / CAPACITY, 3),
        "answered_p50_ms": percentile(answered, 50),
        "answered_p99_ms": percentile(answered, 99),
        "refused_p50_ms": percentile(shed, 50),
        "refused_p99_ms": percentile(shed, 99),
        "longest_ms": round(max(1e3 * reply.latency_s for reply in counted), 1),
    }


def percentile(values: list[float], percent: int) -> float | None:
    """Return a percentile, None of nothing."""
    return round(statistics.quantiles(values, n=100)[percent - 1], 1) if len(values) > 1 else None


async def offer(port: int, request: bytes, *, rate: float, duration_s: float) -> list[Reply]:
    """Send requests at random moments, `rate` a second, and return what became of each."""
    chance = random.Random(0)
    idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()
    replies: list[Reply] = []
    begin = time.perf_counter()

    async def ask() -> None:
        start, status, head = time.perf_counter(), 0, b""
        while idle and start - idle[0][0] > IDLE_S:
            idle.popleft()[2].close()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = idle.pop()[1:] if idle else await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
            status = int(head.split(b" ", 2)[1])
            if b"\r\nconnection: close\r\n" in head:
                writer.close()
            else:
                idle.append((time.perf_counter(), reader, writer))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # status 0
        now = time.perf_counter()
        replies.append(Reply(start - begin, status, now - start, b"\r\nretry-after: " in head))

    async with asyncio.TaskGroup() as group:
        moment = begin
        while (moment := moment + chance.expovariate(rate)) < begin + duration_s:
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            group.create_task(ask())
    for _, _, writer in idle:
        writer.close()
    return replies
