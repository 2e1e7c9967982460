"""Single images of several requests in one call: who waits for whom, who gets what, and who is left out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from contract.store import ModelStore
from service.gateway.backend.backend import Backend, ModelReply
from service.gateway.context.errors import BrokenContractError, GatewayError
from service.gateway.inference.micro_batching import MAX_WAIT_S, BatchedRequest, MicroBatcher
from service.gateway.inference.prediction import PredictSignature
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.helpers.tiny_model import VARIANTS, build_contract, build_image, expected_probabilities
from tests.service.conftest import StartProcess

SPEC = build_contract(VARIANTS["plain"]).input
LABELS = VARIANTS["plain"].labels
PATIENCE_S = 30.0

Test = Callable[[MicroBatcher], Coroutine[Any, Any, None]]


def image(colour: str, *, strength: int = 200) -> NDArray[np.uint8]:
    return build_image(colour, 16, strength=strength)[np.newaxis]


def run(backend: ScriptedBackend, test: Test, **settings: Any) -> None:
    """Run a coroutine with a batcher on the scripted model server; who waits for others does so for ever by default."""

    async def connected() -> None:
        client = Backend(backend.address, timeout_s=PATIENCE_S)
        await client.open()
        try:
            await test(MicroBatcher(client, **{"max_batch": 32, "max_wait_s": 3600.0, **settings}))
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(connected(), PATIENCE_S))


@contextlib.asynccontextmanager
async def batched_requests(batcher: MicroBatcher, number: int) -> AsyncIterator[list[BatchedRequest]]:
    """So many requests that have begun to prepare their images."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(batcher.request("colours", 1, SPEC, PredictSignature())) for _ in range(number)]


async def reached(backend: ScriptedBackend, calls: int) -> None:
    """Wait until so many calls are with the model server, or have been."""
    while len(backend.predictions) < calls:  # noqa: ASYNC110 - another thread counts them
        await asyncio.sleep(0.01)


def test_a_request_that_nobody_else_prepares_for_goes_at_once(backend: ScriptedBackend) -> None:
    """Alone, or while the others are already with the model server."""

    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 1) as (only,):
            await only.infer({"images": image("red")})
        async with batched_requests(batcher, 1) as (first,):
            call = asyncio.create_task(first.infer({"images": image("red")}))
            await reached(backend, 2)
            async with batched_requests(batcher, 1) as (second,):
                await second.infer({"images": image("blue")})
            await call

    run(backend, test)
    assert [("colours", 1, 1)] * 3 == backend.predictions


def test_requests_that_prepare_together_share_calls_and_each_gets_its_own_row(backend: ScriptedBackend) -> None:
    """Eight make two calls of four: while one is computed the other half can be decoded."""
    images = [image(colour, strength=90 + 20 * i) for i, colour in enumerate((*COLOURS, *COLOURS, "red", "blue"))]

    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 8) as asking:
            replies = await asyncio.gather(*(m.infer({"images": one}) for m, one in zip(asking, images, strict=True)))
        for reply, one in zip(replies, images, strict=True):
            assert 1 == reply.version
            np.testing.assert_array_equal(expected_probabilities(one, LABELS), reply.outputs["probabilities"])

    run(backend, test)
    assert [4, 4] == [number for _, _, number in backend.predictions]


def test_nobody_waits_long_for_one_that_still_decodes(backend: ScriptedBackend) -> None:
    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 6) as (first, second, *_):
            await asyncio.gather(first.infer({"images": image("red")}), second.infer({"images": image("blue")}))

    run(backend, test, max_wait_s=MAX_WAIT_S)
    assert [2] == [number for _, _, number in backend.predictions]


def test_one_whose_image_cannot_be_decoded_keeps_nobody_waiting(backend: ScriptedBackend) -> None:
    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 5) as (first, second, *_):
            calls = asyncio.gather(first.infer({"images": image("red")}), second.infer({"images": image("blue")}))
            await asyncio.sleep(0.05)
            assert not backend.predictions
            # leaving the block ends the three others
        await calls

    run(backend, test)
    assert [2] == [number for _, _, number in backend.predictions]


def test_a_batch_goes_alone_and_keeps_nobody_waiting(backend: ScriptedBackend) -> None:
    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 4) as (first, *others):
            waiting = asyncio.create_task(first.infer({"images": image("red")}))
            await asyncio.sleep(0.05)
            pairs = (other.infer({"images": np.concatenate([image("blue"), image("green")])}) for other in others)
            replies = await asyncio.gather(*pairs)
            assert [(2, 3)] * 3 == [reply.outputs["probabilities"].shape for reply in replies]
            assert (1, 3) == (await waiting).outputs["probabilities"].shape

    run(backend, test)
    assert [1, 2, 2, 2] == sorted(number for _, _, number in backend.predictions)


def test_a_request_with_an_end_of_its_own_goes_alone(backend: ScriptedBackend) -> None:
    """The model server is told that end, and only that request's."""

    async def hurried(batched: BatchedRequest) -> ModelReply:
        return await batched.infer({"images": image("red")}, time.monotonic() + 5.0)

    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 4) as (first, *others):
            calls = [asyncio.create_task(hurried(first))]
            calls += [asyncio.create_task(other.infer({"images": image("blue")})) for other in others]
            await asyncio.gather(*calls)

    run(backend, test)
    calls = zip([number for _, _, number in backend.predictions], backend.times_left, strict=True)
    assert [1] == [number for number, left_s in calls if left_s < PATIENCE_S / 2]
    assert 4 == sum(number for _, _, number in backend.predictions)


def test_other_versions_and_other_sizes_never_meet(backend: ScriptedBackend) -> None:
    backend.versions["colours", 2] = scripted("small")
    small = build_contract(VARIANTS["small"]).input

    async def test(batcher: MicroBatcher) -> None:
        with contextlib.ExitStack() as stack:
            kinds = ((1, SPEC), (2, small), (None, small))
            asking = [
                stack.enter_context(batcher.request("colours", *kind, PredictSignature()))
                for kind in kinds
                for _ in range(3)
            ]
            sizes = [16] * 3 + [8] * 6
            images = [build_image("red", size)[np.newaxis] for size in sizes]
            replies = await asyncio.gather(*(m.infer({"images": one}) for m, one in zip(asking, images, strict=True)))
        assert [1] * 3 + [2] * 6 == [reply.version for reply in replies]

    run(backend, test)
    assert {1: 3, 2: 3, None: 3} == {
        asked: sum(number for _, version, number in backend.predictions if version == asked) for asked in (1, 2, None)
    }


def test_where_batching_is_off_each_goes_alone(backend: ScriptedBackend) -> None:
    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 4) as asking:
            await asyncio.gather(*(batched.infer({"images": image("red")}) for batched in asking))

    run(backend, test, is_enabled=False)
    run(backend, test, max_batch=1)
    assert [1] * 8 == [number for _, _, number in backend.predictions]


def test_a_failure_is_told_to_all_who_share_the_call(backend: ScriptedBackend) -> None:
    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 4) as asking:
            replies = await asyncio.gather(*(m.infer({"images": image("red")}) for m in asking), return_exceptions=True)
        assert [True] * 4 == [isinstance(reply, GatewayError) for reply in replies]

    backend.versions["colours", 1].fault = grpc.StatusCode.INTERNAL
    run(backend, test)


@pytest.mark.parametrize("num_rows", [1, 3])
def test_a_reply_without_a_row_for_each_is_nobodys(backend: ScriptedBackend, num_rows: int) -> None:
    """A row too many or too few may belong to any request: no request gets one."""

    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 4) as asking:
            replies = await asyncio.gather(*(m.infer({"images": image("red")}) for m in asking), return_exceptions=True)
        assert [True] * 4 == [isinstance(reply, BrokenContractError) for reply in replies]

    backend.versions["colours", 1].answer = lambda _: np.full((num_rows, 3), 1 / 3, np.float32)
    run(backend, test)


def test_one_who_leaves_takes_nothing_from_the_others(backend: ScriptedBackend) -> None:
    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 4) as asking:
            colours = ("red", "green", "blue", "red")
            calls = [asyncio.create_task(m.infer({"images": image(c)})) for m, c in zip(asking, colours, strict=True)]
            await reached(backend, 2)
            calls[0].cancel()
            replies = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(replies[0], asyncio.CancelledError)
        for reply, colour in zip(replies[1:], colours[1:], strict=True):
            assert isinstance(reply, ModelReply)
            np.testing.assert_array_equal(expected_probabilities(image(colour), LABELS), reply.outputs["probabilities"])

    backend.versions["colours", 1].delay_s = 0.3
    run(backend, test)
    assert [2, 2] == [number for _, _, number in backend.predictions]


def test_who_leaves_before_the_call_is_not_in_it(backend: ScriptedBackend) -> None:
    async def test(batcher: MicroBatcher) -> None:
        async with batched_requests(batcher, 6) as (first, second, *_):
            calls = [asyncio.create_task(m.infer({"images": image("red")})) for m in (first, second)]
            await asyncio.sleep(0.05)
            calls[0].cancel()
            await asyncio.sleep(0)
        await calls[1]

    run(backend, test)
    assert [1] == [number for _, _, number in backend.predictions]


def test_a_call_that_everybody_has_left_is_given_up(backend: ScriptedBackend) -> None:
    """Long before the model server would have answered."""

    async def test(batcher: MicroBatcher) -> None:
        before = asyncio.all_tasks()
        async with batched_requests(batcher, 4) as asking:
            calls = [asyncio.create_task(batched.infer({"images": image("red")})) for batched in asking]
            await reached(backend, 2)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            while before != asyncio.all_tasks():  # noqa: ASYNC110 - asyncio has no event for it
                await asyncio.sleep(0.01)

    with backend.versions["colours", 1].held():
        run(backend, test)


def test_many_requests_get_their_own_answers_over_http(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Twelve clients, each with pictures of its own, in fewer calls than pictures."""
    backend.versions["colours", 1].delay_s = 0.02
    process = start_process("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0")
    url = process.wait_for_url()
    process.wait_until_ready(url)
    backend.predictions.clear()

    def ask(number: int) -> list[tuple[str, str]]:
        found = []
        with httpx2.Client(trust_env=False, timeout=PATIENCE_S) as client:
            for turn in range(20):
                colour = COLOURS[(number + turn) % 3]
                reply = client.post(f"{url}/v1/predict", content=encode(colour, size=200))
                found.append((colour, reply.json()["predictions"][0]["top"][0]["id"]))
        return found

    with ThreadPoolExecutor(12) as pool:
        answers = [pair for found in pool.map(ask, range(12)) for pair in found]

    assert [pair for pair in answers if pair[0] != pair[1]] == []
    assert 240 == sum(number for _, _, number in backend.predictions)
    assert 240 > len(backend.predictions)
