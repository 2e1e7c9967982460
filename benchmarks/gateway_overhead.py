"""Measures the gateway's own CPU time a request, without decoding and inference, against a bare FastAPI route.

Both answer the same JPEG in turns, in processes of their own; the model server answers at once. CPU is that of the
whole process, so thread switches, garbage collection and gRPC's threads are in it. Decoding is measured alone, by
the same function, in the same turns, and subtracted.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._instant_backend import MODEL
from benchmarks._load import answers, cpu_seconds, free_port, http_request, post_many, resident_bytes, running
from contract.image import decode_image
from contract.model import InputSpec
from contract.store import ModelStore

SIDE = 512
REPEATS = 7
REQUESTS = 400
WARM_UP = 300
CONCURRENCIES = (1, 8)
SPEC = InputSpec(height=224, width=224)


def run() -> dict[str, Any]:
    """Measure in turns: the bare route, the gateway, decoding alone."""
    picture = build_jpeg(SIDE)
    request = http_request(picture)
    rows: dict[int, dict[str, list[float]]] = {c: {"bare": [], "gateway": [], "decode": []} for c in CONCURRENCIES}
    with running_gateway() as (port, pid), running_bare_route() as (bare_port, bare_pid):
        for target in (port, bare_port):
            post_many(target, request, count=WARM_UP, concurrency=8)
        resident = resident_bytes(pid)
        for _ in range(REPEATS):
            for concurrency, row in rows.items():
                row["bare"].append(cpu_of_requests(bare_pid, bare_port, request, concurrency=concurrency))
                row["decode"].append(cpu_of_decoding(picture))
                row["gateway"].append(cpu_of_requests(pid, port, request, concurrency=concurrency))
        grown = resident_bytes(pid) - resident
    return {
        "jpeg": {"side": SIDE, "bytes": len(picture)},
        "repeats": REPEATS,
        "requests": REQUESTS,
        "resident_growth_bytes_per_10000": round(grown * 10_000 / (REPEATS * REQUESTS * len(CONCURRENCIES))),
        **{f"concurrency_{concurrency}": summarise(row) for concurrency, row in rows.items()},
    }


def summarise(row: dict[str, list[float]]) -> dict[str, float]:
    """Return medians in milliseconds of CPU a request, and the gateway's own against the bare route's."""
    bare, gateway, decode = (statistics.median(row[name]) for name in ("bare", "gateway", "decode"))
    own = statistics.median(g - d for g, d in zip(row["gateway"], row["decode"], strict=True))
    milliseconds = {"bare_route_ms": bare, "gateway_total_ms": gateway, "decode_ms": decode, "gateway_own_ms": own}
    return {
        **{name: round(1e3 * value, 3) for name, value in milliseconds.items()},
        "own_to_bare": round(own / bare, 2),
    }


def cpu_of_requests(pid: int, port: int, request: bytes, *, concurrency: int) -> float:
    """Return the CPU time that a server takes for one request, seconds."""
    start = cpu_seconds(pid)
    post_many(port, request, count=REQUESTS, concurrency=concurrency)
    return (cpu_seconds(pid) - start) / REQUESTS


def cpu_of_decoding(picture: bytes) -> float:
    """Return the CPU time that decoding one image takes, seconds."""
    start = time.thread_time()
    for _ in range(REQUESTS // 4):
        decode_image(picture, SPEC)
    return (time.thread_time() - start) / (REQUESTS // 4)


def build_jpeg(side: int) -> bytes:
    """Return a photograph-like JPEG: smooth shapes with some grain, about 40 KB at 512 x 512."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (12, 12, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = rng.normal(0, 7, (side, side, 1))
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


@contextlib.contextmanager
def running_gateway(*flags: str, backend_flags: tuple[str, ...] = ()) -> Iterator[tuple[int, int]]:
    """Run the gateway in front of an instant model server; give its port and process id."""
    with tempfile.TemporaryDirectory(prefix="fovea-bench-") as folder:
        store = ModelStore(Path(folder) / "models")
        with store.staging() as directory:
            store.publish(MODEL, directory, live=True)  # an empty version: the gateway reads the index alone
        path = Path(folder) / "backend.sock"
        port = free_port()
        with (
            running("benchmarks._instant_backend", str(path), *backend_flags, ready=path.exists),
            running(
                "service",
                "gateway",
                f"--models-dir={store.root}",
                f"--backend=unix:{path}",
                f"--port={port}",
                *flags,
                ready=lambda: answers(port),
            ) as pid,
        ):
            yield port, pid


@contextlib.contextmanager
def running_bare_route() -> Iterator[tuple[int, int]]:
    """Run the bare route; give its port and process id."""
    port = free_port()
    with running("benchmarks._bare_route", str(port), ready=lambda: answers(port)) as pid:
        yield port, pid
