"""The closed loop over gRPC: one channel, requests serialized beforehand, replies left unparsed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

import grpc

from benchmarks.load.plan import Plan, read_body
from benchmarks.load.recorder import OK, Recorder

_OPTIONS = (("grpc.max_receive_message_length", 256 << 20), ("grpc.max_send_message_length", 256 << 20))


def run_grpc(plan: Plan) -> Recorder:
    """Send requests until the window is over, then wait for what is under way."""
    return asyncio.run(_run(plan))


async def _run(plan: Plan) -> Recorder:
    recorder = Recorder(plan, time.monotonic())
    turns = itertools.cycle([(payload.path, read_body(payload)) for payload in plan.payloads])
    async with grpc.aio.insecure_channel(plan.address, options=_OPTIONS) as channel:
        await asyncio.gather(*(_call_in_turn(channel, turns, plan, recorder) for _ in range(plan.concurrency)))
    return recorder


async def _call_in_turn(
    channel: grpc.aio.Channel, turns: Iterator[tuple[str, bytes]], plan: Plan, recorder: Recorder
) -> None:
    expect = plan.expect.encode()
    while not recorder.is_over:
        method, request = next(turns)
        began = time.monotonic()
        try:
            reply = await channel.unary_unary(method)(request, timeout=plan.timeout_s)
            outcome = OK if expect in reply else "unexpected"
        except grpc.aio.AioRpcError as err:
            outcome = err.code().name
            await asyncio.sleep(0.02)
        now = time.monotonic()
        recorder.record(now, now - began, outcome)
        recorder.tick(now)
