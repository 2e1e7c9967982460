"""The model server dies, stands still, is slow, hangs up, refuses or answers nonsense: what clients see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.faults.conftest import Served, stopped
from tests.helpers.gateway_process import ServiceProcess, fetch, in_flight
from tests.helpers.scripted_backend import Answer, ScriptedBackend, scripted
from tests.helpers.traffic import encode_colour, is_answer, post_images, traffic, wait_until
from tests.helpers.wire import Wire
from tests.service.conftest import publish_empty

COLOUR = (120, 140, 110)
PICTURE = encode_colour(COLOUR)
PIXELS_BYTES = 16 * 16 * 3  # as the model server receives it
CONTRACT_BROKEN = (502, "model_server_broke_contract")


def ask(url: str, *, model: str = "colours", timeout: str = "60") -> tuple[int, str, bool]:
    """Send one picture; return status, its error's code or "right" or "wrong", and whether there is a Retry-After."""
    status, body, may_retry = post_images(
        url, [PICTURE], query=f"?model={model}", headers={"x-request-timeout": timeout}
    )
    if status != 200:
        return status, body["error"]["code"], may_retry
    return status, "right" if is_answer(body["predictions"][0], COLOUR) else "wrong", may_retry


RIGHT = (200, "right", False)


def test_killed_and_restarted_under_load(served: Served, start_modelserver: StartModelServer) -> None:
    """503 with Retry-After while it is away, right answers before and after, and counters that say the same."""
    port = served.server.address.rsplit(":", 1)[1]
    with traffic(served.url, pause_s=0.01) as seen:
        wait_until(lambda: seen.answers.total() > 20)
        served.server.process.kill()
        wait_until(lambda: seen.statuses[503] > 5)
        start_modelserver(served.store, f"--port={port}")
        answered = seen.answers.total()
        wait_until(lambda: seen.answers.total() > answered + 20)

    assert ([], []) == (seen.wrong, seen.lost)
    assert {200, 503} == set(seen.statuses)
    assert seen.codes.keys() <= {"model_server_unreachable", "model_not_ready"}
    assert 0 == seen.no_retry_after
    served.check_counters(seen)


def test_stalled_model_server_is_504_when_the_client_gives_up(wired: tuple[Served, Wire]) -> None:
    """Nothing else waits for it: the gateway lives, and answers again as soon as the model server does."""
    served, _ = wired
    with stopped(served.server):
        stalled = ask(served.url, timeout="1")
        alive = fetch(served.url + "/healthz")

    assert (504, "deadline_exceeded") == stalled[:2]
    assert alive is not None and alive.status_code == 200
    assert RIGHT == ask(served.url)


def test_slow_answer_is_504_for_the_impatient_and_an_answer_for_others(wired: tuple[Served, Wire]) -> None:
    """A model of half a second: a client that waits a fifth of that is told so, one that waits gets its answer."""
    served, _ = wired
    with ThreadPoolExecutor(2) as pool:
        impatient = pool.submit(ask, served.url, model="slow", timeout="0.1")
        patient = pool.submit(ask, served.url, model="slow")

    assert (504, "deadline_exceeded") == impatient.result()[:2]
    assert RIGHT == patient.result()


def test_connection_reset_in_a_call_is_not_the_clients_concern(wired: tuple[Served, Wire]) -> None:
    """The call is made again on a new connection."""
    served, wire = wired
    with ThreadPoolExecutor(1) as pool:
        with stopped(served.server):  # so that the call is certainly under way
            before = wire.sent_bytes
            asked = pool.submit(ask, served.url, model="slow")
            wait_until(lambda: wire.sent_bytes > before + PIXELS_BYTES)
            assert wire.reset() >= 2
        assert RIGHT == asked.result()


def test_connections_that_are_reset_again_and_again_are_503(wired: tuple[Served, Wire]) -> None:
    """With Retry-After; and answers as soon as the wire is whole."""
    served, wire = wired
    wire.is_broken = True
    try:
        refused = ask(served.url)
    finally:
        wire.is_broken = False

    assert (503, "model_server_unreachable", True) == refused
    wait_until(lambda: ask(served.url) == RIGHT)


def test_resource_exhausted_is_503_for_those_beyond_the_queue(wired: tuple[Served, Wire]) -> None:
    """One call runs and two wait; the others are refused with Retry-After, and the three are answered."""
    served, _ = wired
    with ThreadPoolExecutor(9) as pool:
        with stopped(served.server):  # so that all calls arrive at once
            asked = [pool.submit(ask, served.url, model="slow") for _ in range(9)]
            wait_until(lambda: in_flight(served.url) == 9)
            time.sleep(0.3)
        replies = [reply.result() for reply in asked]

    assert {RIGHT, (503, "overloaded", True)} == set(replies)
    assert RIGHT == ask(served.url, model="slow")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ScriptedBackend]]:
    """A gateway process in front of a model server that does as it is told."""
    folder = tmp_path_factory.mktemp("told")
    store = ModelStore(folder / "models")
    publish_empty(store)
    with ScriptedBackend(folder / "backend.sock") as backend:
        backend.versions["colours", 1] = scripted()
        process = ServiceProcess(
            ["gateway", f"--models-dir={store.root}", f"--backend={backend.address}", "--port=0"], folder
        )
        try:
            url = process.wait_for_url()
            process.wait_until_ready(url)
            yield url, backend
        finally:
            assert 0 == process.stop()


def test_burst_of_unavailable_is_503_and_does_not_multiply_the_load(told: tuple[str, ScriptedBackend]) -> None:
    """Retries stay within their budget, every refusal says when to try again, and after the burst all is well."""
    url, backend = told
    behaviour = backend.versions["colours", 1]
    behaviour.fault = grpc.StatusCode.UNAVAILABLE
    before = len(backend.predictions)
    try:
        replies = {ask(url) for _ in range(40)}
    finally:
        behaviour.fault = None

    assert {(503, "model_server_unreachable", True)} == replies
    assert 40 < len(backend.predictions) - before <= 40 + 4 + 10 + 10  # a tenth, the reserve; the checks of readiness
    assert RIGHT == ask(url)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda images: np.full((len(images) + 1, 3), 1 / 3, np.float32), id="wrong-shape"),
        pytest.param(lambda images: np.full((len(images), 3), np.nan, np.float32), id="nan"),
        pytest.param(lambda images: np.full((len(images), 4), 0.25, np.float32), id="wrong-label-count"),
    ],
)
def test_nonsense_is_502(told: tuple[str, ScriptedBackend], answer: Answer) -> None:
    """An answer against the contract is never passed on as a prediction, and does not harm the next request."""
    url, backend = told
    behaviour = backend.versions["colours", 1]
    behaviour.answer = answer
    try:
        refused = ask(url)
    finally:
        behaviour.answer = None

    assert CONTRACT_BROKEN == refused[:2]
    assert RIGHT == ask(url)
