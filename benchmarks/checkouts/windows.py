"""Alternating windows of running checkouts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load.http_loop import run_http
from benchmarks.load.plan import Payload, Plan

ORDER = (0, 1, 1, 0)  # the first checkout and another one: what drifts evenly falls on both


def read_plan(document: Mapping[str, Any]) -> Plan:
    """Return the plan that `Plan.to_json` wrote."""
    payloads = tuple(Payload(**payload) for payload in document["payloads"])
    return Plan(**{**document, "payloads": payloads})


def measure(
    plans: Mapping[str, Plan], *, concurrencies: Sequence[int], limit_s: float, results: Path, settle_s: float = 3.0
) -> Iterator[dict[str, Any]]:
    """Measure each checkout against the first one in turns; append each block of four windows to a file.

    Every checkout gets some load first: the first requests of a process take longer.

    Args:
        plans: by the checkout's name, the first one's first.
        concurrencies: one block for each in a round.
        limit_s: no block begins after that.
        results: a file of JSON lines.
        settle_s: seconds of load on each checkout before the first window.
    """
    first, *others = plans
    for plan in plans.values():
        run_http(replace(plan, concurrency=max(concurrencies), seconds=settle_s))
    end = time.monotonic() + limit_s
    with _standing_still(plans[name] for name in others):
        while True:
            for other in others:
                for concurrency in concurrencies:
                    if time.monotonic() > end:
                        return
                    block = {"other": other, "concurrency": concurrency}
                    block |= {"windows": _run_block(plans[first], plans[other], concurrency)}
                    with results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(block) + "\n")
                    yield block


def _run_block(first: Plan, other: Plan, concurrency: int) -> list[dict[str, Any]]:
    _signal(other, signal.SIGCONT)
    try:
        plans = [replace((first, other)[place], concurrency=concurrency) for place in ORDER]
        return [run_http(plan).summarize() for plan in plans]
    finally:
        _signal(other, signal.SIGSTOP)


@contextlib.contextmanager
def _standing_still(plans: Iterable[Plan]) -> Iterator[None]:
    """Stop the programs of some checkouts, but for their blocks: idle ones take a share of the processors."""
    stopped = list(plans)
    try:
        for plan in stopped:
            _signal(plan, signal.SIGSTOP)
        yield
    finally:
        for plan in stopped:
            _signal(plan, signal.SIGCONT)


def _signal(plan: Plan, number: signal.Signals) -> None:
    for pids in plan.groups.values():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
