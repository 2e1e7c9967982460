"""Gateways die, are stopped at work, and live through a wall clock that jumps."""

from __future__ import annotations

import http.client
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from contract.store import ModelStore
from tests.faults.conftest import Served, start_serving
from tests.helpers.jumping_clock import COMPILER, JumpingClock
from tests.helpers.scripted_backend import ScriptedBackend
from tests.helpers.traffic import encode_colour, post_images, traffic, wait_until
from tests.service.conftest import StartProcess

DAY_S = 86_400
PICTURE = encode_colour((120, 130, 140))


def test_when_one_of_two_gateways_dies_the_other_answers_everything(
    served: Served, start_process: StartProcess
) -> None:
    """Kill -9 under load: clients that ask the other one then lose nothing, and get their own pictures' answers."""
    other = start_serving(served.server, start_process)
    with traffic(served.url, other.url, pause_s=0.01) as seen:
        wait_until(lambda: seen.answers.total() > 20)
        served.gateway.kill()
        wait_until(lambda: seen.moved.total() > 5)

    assert ([], [], {200}) == (seen.wrong, seen.lost, set(seen.statuses))
    assert {} != other.models


def test_sigterm_under_load_loses_nothing_where_there_is_another_gateway(
    served: Served, start_process: StartProcess
) -> None:
    """One of two is stopped: what it accepted it answers, and its clients go to the other one."""
    other = start_serving(served.server, start_process)
    with traffic(served.url, other.url, pause_s=0.01) as seen:
        wait_until(lambda: seen.answers.total() > 20)
        served.gateway.send(signal.SIGTERM)
        assert 0 == served.gateway.wait()
        wait_until(lambda: seen.moved.total() > 5)

    assert ([], [], {200}) == (seen.wrong, seen.lost, set(seen.statuses))
    assert {"ConnectionRefusedError"} == set(seen.moved)  # none had been accepted


@pytest.mark.skipif(COMPILER is None, reason="a clock that jumps is built by a C compiler, and there is none")
def test_clock_that_jumps_changes_no_answer_and_locks_nobody_out(
    tmp_path: Path, start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> None:
    """A day ahead, then a day behind: deadlines and answers are as before, and rate limits forgive, not lock out."""
    clock = JumpingClock(tmp_path)
    process = start_process(
        "gateway",
        f"--models-dir={index.root}",
        f"--backend={backend.address}",
        "--port=0",
        "--rate-limit=40/hour",
        **clock.environ,
    )
    url = process.wait_for_url()
    process.wait_until_ready(url)
    backend.versions["colours", 1].delay_s = 0.3
    with ThreadPoolExecutor(4) as pool:
        for shift in (0, DAY_S, -DAY_S):
            asked = [pool.submit(post_images, url, [PICTURE], headers={"x-request-timeout": "60"}) for _ in range(4)]
            time.sleep(0.1)  # they are under way, or soon
            clock.jump(shift)
            assert [200] * 4 == [reply.result()[0] for reply in asked]
            wait_until(lambda expected=shift: expected == days_ahead(url) * DAY_S)  # the process lives by that clock

    backend.versions["colours", 1].delay_s = 0.0
    clock.jump(DAY_S)
    statuses = [post_images(url, [PICTURE])[0] for _ in range(41)]
    assert 429 == statuses[-1]
    clock.jump(0)
    assert 200 == post_images(url, [PICTURE])[0]


def days_ahead(url: str) -> int:
    """Return how many days a gateway's clock is ahead, by uvicorn's Date header, which is renewed once a second."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", "/healthz")
        reply = connection.getresponse()
        reply.read()
        return round((parsedate_to_datetime(reply.headers["date"]).timestamp() - time.time()) / DAY_S)
    finally:
        connection.close()
