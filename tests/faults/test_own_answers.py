"""Every caller gets its own image's answer, whatever the others send, break or give up."""

from __future__ import annotations

import base64
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.store import ModelStore
from tests.faults.conftest import read_counters, start_serving
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.server_process import start_server
from tests.helpers.tiny_model import publish_variant
from tests.helpers.traffic import NO_IMAGE, Colour, encode_colour, is_answer, post_images, random_colour

NUM_CALLERS = 8


@dataclass(frozen=True)
class Request:
    """The requests of one caller.

    Attributes:
        colours: of its images; None is bytes that are no image.
        seconds: that it waits, as its header says.
        leaves: whether it hangs up as soon as it has sent everything.
    """

    colours: tuple[Colour | None, ...]
    seconds: str = "60"
    leaves: bool = False


COLOURS = st.integers(0, 2**32).map(lambda seed: random_colour(random.Random(seed)))
REQUESTS = st.one_of(
    st.builds(Request, st.lists(COLOURS | st.none(), min_size=1, max_size=5).map(tuple)),
    st.builds(Request, st.lists(COLOURS, min_size=1, max_size=20).map(tuple)),
    st.builds(Request, st.lists(COLOURS, min_size=1, max_size=5).map(tuple), st.just("0.002")),
    st.builds(Request, st.lists(COLOURS, min_size=1, max_size=5).map(tuple), st.just("60"), st.just(True)),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Iterator[str]:
    """A gateway in front of a model server that joins calls into batches of up to four."""
    folder = tmp_path_factory.mktemp("own")
    store = ModelStore(folder / "models")
    publish_variant(store, tiny_models["plain"])
    server = start_server(store, folder / "modelserver.log", ("--max_batch_size=4",))
    processes: list[ServiceProcess] = []

    def start(*arguments: str) -> ServiceProcess:
        processes.append(ServiceProcess(arguments, folder))
        return processes[-1]

    try:
        yield start_serving(server, start, "--max-batch=7").url
    finally:
        for process in processes:
            process.stop()
        server.stop()


def send(url: str, request: Request) -> int | None:
    """Send a request and check its answer; return its status, None of one that has left."""
    images = [NO_IMAGE if colour is None else encode_colour(colour) for colour in request.colours]
    if request.leaves:
        return leave(url, images)
    status, body, _ = post_images(url, images, headers={"x-request-timeout": request.seconds})
    if status == 200:
        for colour, entry in zip(request.colours, body["predictions"], strict=True):
            right = "error" in entry and "top" not in entry if colour is None else is_answer(entry, colour)
            assert right, f"{colour}: {entry}"
    elif status == 504:
        assert request.seconds != "60"
    else:
        assert status in (400, 415) and set(request.colours) == {None}, body
    return status


def leave(url: str, images: list[bytes]) -> None:
    """Send a request and hang up."""
    body = json.dumps({"images": [{"b64": base64.b64encode(image).decode()} for image in images]})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("POST", "/v1/predict", body, {"content-type": "application/json"})
    connection.close()


@settings(max_examples=12)
@given(requests=st.lists(REQUESTS, min_size=10, max_size=40))
def test_every_caller_gets_its_own_images_answer(url: str, requests: list[Request]) -> None:
    """Images that can be told apart, from callers at the same time, some broken, late or given up; counters agree."""
    statuses_before, images_before = read_counters(url)
    with ThreadPoolExecutor(NUM_CALLERS) as pool:
        ended = list(pool.map(send, [url] * len(requests), requests))
    deadline = time.monotonic() + 120
    while (grown := Counter(read_counters(url)[0]) - Counter(statuses_before)).total() < len(requests):
        assert time.monotonic() < deadline, f"{len(requests)} requests were sent. Counted: {grown}"
        time.sleep(0.02)

    seen = Counter(status for status in ended if status is not None)
    left = ended.count(None)
    assert len(requests) == grown.total()
    assert seen[200] <= grown[200] <= seen[200] + left  # who left may have been answered already, or not: 499
    assert seen[200] + left == grown[200] + grown[499]
    assert {code: seen[code] for code in (400, 415, 504)} == {code: grown[code] for code in (400, 415, 504)}
    answered = [r for r, status in zip(requests, ended, strict=True) if status == 200]
    images = sum(colour is not None for request in answered for colour in request.colours)
    at_most = images + sum(len(request.colours) for request in requests if request.leaves)
    grown_images = sum(read_counters(url)[1].values()) - sum(images_before.values())
    assert images <= grown_images <= at_most
