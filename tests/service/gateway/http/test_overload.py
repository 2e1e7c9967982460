"""Too many requests, too little time, clients that leave, and a model server that is away for a moment."""

from __future__ import annotations

import asyncio
import socket
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from urllib.parse import urlsplit

import grpc
import httpx2
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.backend.retries import RetryBudget
from service.gateway.context.errors import OverloadedError
from service.gateway.http.admission import Admission
from service.gateway.telemetry.metrics import Metrics
from tests.helpers.gateway_process import wait_for_metric
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import StartProcess

PATIENCE_S = 60.0


def post(url: str, *, timeout: str | None = None) -> httpx2.Response:
    headers = {} if timeout is None else {"x-request-timeout": timeout}
    return httpx2.post(f"{url}/v1/predict", content=encode("red"), headers=headers, timeout=PATIENCE_S, trust_env=False)


@pytest.fixture
def narrow(start_process: StartProcess, backend: ScriptedBackend, index: ModelStore) -> str:
    """A gateway with one place and a queue of one, ready."""
    process = start_process(
        "gateway",
        f"--models-dir={index.root}",
        f"--backend={backend.address}",
        "--port=0",
        "--max-concurrency=1",
        "--max-queue=1",
    )
    url = process.wait_for_url()
    process.wait_until_ready(url)
    return url


def test_requests_beyond_the_queue_are_refused_at_once(narrow: str, backend: ScriptedBackend) -> None:
    """503 and Retry-After while the others are still being answered; those get their answers."""
    with ThreadPoolExecutor(3) as pool:
        with backend.versions["colours", 1].held():
            asked = [pool.submit(post, narrow) for _ in range(3)]
            refused = next(as_completed(asked, PATIENCE_S)).result()
            busy = [not reply.done() for reply in asked]
        answered = sorted(reply.result(PATIENCE_S).status_code for reply in asked)

    assert (503, "overloaded") == (refused.status_code, refused.json()["error"]["code"])
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert [False, True, True] == sorted(busy)
    assert [200, 200, 503] == answered
    wait_for_metric(narrow, 'fovea_shed_total{reason="queue_full"} 1.0')
    assert 200 == post(narrow).status_code


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_bodies_of_all_requests_are_bounded_together(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, packed: bool
) -> None:
    """Many clients that send large bodies slowly would fill the memory, each within its own limit."""
    process = start_process(
        "gateway",
        f"--models-dir={index.root}",
        f"--backend={backend.address}",
        "--port=0",
        "--max-body-bytes=1000000",
        "--max-held-bytes=2500000",
    )
    url = process.wait_for_url()
    process.wait_until_ready(url)
    parts = urlsplit(url)
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(bytes(900_000)) + packer.flush(zlib.Z_SYNC_FLUSH) if packed else bytes(900_000)
    encoding = b"Content-Encoding: gzip\r\n" if packed else b""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n" % (len(body) + 9, encoding)
    slow = [socket.create_connection((str(parts.hostname), int(parts.port or 0)), PATIENCE_S) for _ in range(4)]
    try:
        for connection in slow:
            connection.sendall(head + body)  # all but the last 9 bytes
        wait_for_metric(url, 'fovea_shed_total{reason="too_many_bytes"}')
    finally:
        for connection in slow:
            connection.close()
    wait_for_metric(url, "fovea_requests_in_flight 1.0")  # those that left hold nothing any more

    assert 200 == post(url).status_code


@pytest.mark.parametrize("value", ["", "0", "-1", "abc", "1e3", "nan", "inf", "3601", "1 s", "٣"])
def test_timeout_that_is_no_number_of_seconds_is_422(client: TestClient, value: str) -> None:
    """A limit that is silently ignored is worse than none."""
    reply = client.post("/v1/predict", content=encode("red"), headers={"x-request-timeout": value.encode()})

    assert (422, "invalid_value") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize("value", ["60", "60.5", " 60 ", "3600"])
def test_timeout_that_suffices_changes_nothing(client: TestClient, backend: ScriptedBackend, value: str) -> None:
    """The model server is told what is left of it, and never more than the gateway's own limit of 30 s."""
    before = len(backend.times_left)
    reply = client.post("/v1/predict", content=encode("red"), headers={"x-request-timeout": value})

    assert 200 == reply.status_code
    assert all(0 < left < 31 for left in backend.times_left[before:])


def test_clients_timeout_reaches_the_model_server(client: TestClient, backend: ScriptedBackend) -> None:
    """The client's time is the deadline of the call."""
    client.post("/v1/predict", content=encode("red"), headers={"x-request-timeout": "12.5"})

    assert 0 < backend.times_left[-1] < 13


def test_answer_later_than_the_client_waits_is_504(narrow: str, backend: ScriptedBackend) -> None:
    """It comes when the time is over, not when the model server is done; the place is free then."""
    backend.versions["colours", 1].delay_s = 20.0
    start = time.monotonic()
    late = post(narrow, timeout="0.5")
    waited = time.monotonic() - start
    backend.versions["colours", 1].delay_s = 0.0

    assert (504, "deadline_exceeded") == (late.status_code, late.json()["error"]["code"])
    assert 0.5 <= waited < 15
    assert 200 == post(narrow).status_code


def test_time_spent_waiting_for_a_place_counts(narrow: str, backend: ScriptedBackend) -> None:
    """A request whose client gave up in the queue is never sent to the model server."""
    asked = len(backend.predictions)
    with ThreadPoolExecutor(1) as pool:
        with backend.versions["colours", 1].held():
            first = pool.submit(post, narrow)
            while len(backend.predictions) == asked and not first.done():
                time.sleep(0.01)
            late = post(narrow, timeout="0.3")
        assert 200 == first.result(PATIENCE_S).status_code

    assert 504 == late.status_code
    assert asked + 1 == len(backend.predictions)


def test_work_is_dropped_when_the_client_leaves(narrow: str, backend: ScriptedBackend) -> None:
    """Its place is free while the model server still works on its call."""
    asked = len(backend.predictions)
    parts = urlsplit(narrow)
    image = encode("red")
    with backend.versions["colours", 1].held():
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=PATIENCE_S) as connection:
            head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(image)
            connection.sendall(head + image)
            deadline = time.monotonic() + PATIENCE_S
            while len(backend.predictions) == asked and time.monotonic() < deadline:
                time.sleep(0.01)
        backend.versions["colours", 1] = scripted()
        status = post(narrow).status_code

    assert 200 == status
    wait_for_metric(narrow, 'fovea_requests_total{code="499"')


def test_call_that_cannot_reach_the_model_server_is_made_again(client: TestClient, backend: ScriptedBackend) -> None:
    """One UNAVAILABLE is not the client's concern."""
    version = backend.versions["colours", 1]
    before = len(backend.predictions)
    faults = iter([grpc.StatusCode.UNAVAILABLE, None])
    version.on_predict = lambda: setattr(version, "fault", next(faults))
    reply = client.post("/v1/predict", content=encode("red"))

    assert 200 == reply.status_code
    assert before + 2 == len(backend.predictions)


@pytest.mark.parametrize("name", ["INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT"])
def test_nothing_else_is_tried_again(client: TestClient, backend: ScriptedBackend, name: str) -> None:
    """A call that was refused or failed would be refused or fail again, at a cost."""
    backend.versions["colours", 1].fault = grpc.StatusCode[name]
    before = len(backend.predictions)
    client.post("/v1/predict", content=encode("red"))
    faults = len(backend.predictions) - before

    # A broken contract is asked about once more by the catalogue only if what is served has changed.
    assert 1 == faults


def test_full_queue_is_not_asked_again(client: TestClient, backend: ScriptedBackend) -> None:
    """TensorFlow Serving calls that UNAVAILABLE too; more calls would make it worse."""
    backend.versions["colours", 1].fault = grpc.StatusCode.UNAVAILABLE
    backend.versions[
        "colours", 1
    ].details = "The batch scheduling queue to which this task was submitted is full; task size: 1"
    before = len(backend.predictions)
    reply = client.post("/v1/predict", content=encode("red"))

    assert (503, "overloaded") == (reply.status_code, reply.json()["error"]["code"])
    assert before + 1 == len(backend.predictions)


def test_retries_do_not_multiply_the_load(client: TestClient, backend: ScriptedBackend) -> None:
    """When everything fails, they are a tenth of the requests beyond a small reserve."""
    backend.versions["colours", 1].fault = grpc.StatusCode.UNAVAILABLE
    before = len(backend.predictions)
    statuses = {client.post("/v1/predict", content=encode("red")).status_code for _ in range(60)}

    assert {503} == statuses
    assert 60 < len(backend.predictions) - before <= 60 + 10 + 6 + 1


def test_budget_is_a_tenth_of_the_calls() -> None:
    """A reserve first, then one retry for ten calls."""
    budget = RetryBudget(ratio=0.1, reserve=2)
    reserve = [budget.spend() for _ in range(3)]
    later = []
    for _ in range(100):
        budget.count_call()
        later.append(budget.spend())

    assert [True, True, False] == reserve
    assert 9 <= sum(later) <= 10


def test_places_go_to_whoever_waited_longest() -> None:
    """First come, first served, and never more at work than there are places."""

    async def run() -> tuple[list[int], int]:
        admission = Admission(max_working=2, max_waiting=8, max_held_bytes=1, metrics=Metrics())
        order: list[int] = []
        working = most = 0

        async def work(number: int) -> None:
            nonlocal working, most
            async with admission.place():
                order.append(number)
                working += 1
                most = max(most, working)
                await asyncio.sleep(0.001)
                working -= 1

        await asyncio.gather(*(work(number) for number in range(10)))
        return order, most

    assert (list(range(10)), 2) == asyncio.run(run())


def test_waiting_that_is_given_up_leaks_no_place() -> None:
    """The cancellation comes before, in, or after the moment in which the request gets its place."""

    async def run() -> None:
        admission = Admission(max_working=1, max_waiting=3, max_held_bytes=1, metrics=Metrics())

        async def work() -> None:
            async with admission.place():
                await asyncio.sleep(0)

        for steps in range(8):
            tasks = [asyncio.create_task(work()) for _ in range(4)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks[1:3]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(10):
            for _ in range(3):
                await work()
        with pytest.raises(OverloadedError):
            async with admission.place():
                waiting = [asyncio.create_task(work()) for _ in range(4)]
                await asyncio.gather(*waiting)

    asyncio.run(run())
