"""The clients when the service is busy, slow or wants a key: against a real server that says what it is told."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from service.client import AsyncFoveaClient, FoveaClient, FoveaError, PredictResult
from service.client_calls import read_retry_after

GOOD = {
    "model": {"name": "eyes", "version": 3, "contract": "sha256:0"},
    "predictions": [
        {
            "name": "image[0]",
            "top": [{"index": 1, "id": "n1", "label": "cat", "probability": 0.75}],
            "warnings": ["unlike_training_images"],
            "decision": [
                {"id": "n1", "label": "cat", "probability": 0.75, "threshold": 0.5, "called": True}
                | {"sensitivity": 0.9, "specificity": 0.8}
            ],
        }
    ],
    "request_id": "abc",
}


@dataclass(frozen=True)
class Scripted:
    """One reply: status, headers, JSON, and how long it takes."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    document: Any = field(default_factory=lambda: GOOD)
    delay_s: float = 0.0


def busy(status: int = 503, retry_after: str | None = "0") -> Scripted:
    error = {"code": "overloaded", "message": "too much to do", "request_id": "abc"}
    headers = {"X-Request-ID": "abc"} | ({} if retry_after is None else {"Retry-After": retry_after})
    return Scripted(status, headers, {"error": error})


class Server(ThreadingHTTPServer):
    """Answers with `script`, one reply after the other, then with GOOD; remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Scripted] = []
        self.asked: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
        reply = self.server.script.pop(0) if self.server.script else Scripted(200)
        self.server.released.wait(reply.delay_s)
        body = json.dumps(reply.document).encode()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(name="server")
def fixture_server() -> Iterator[Server]:
    """A server for one test."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


Predict = Callable[..., PredictResult]


def predict_sync(url: str, **settings: Any) -> PredictResult:
    with FoveaClient(url, **settings) as client:
        return client.predict([b"image"], request_id="mine")


def predict_async(url: str, **settings: Any) -> PredictResult:
    async def run() -> PredictResult:
        async with AsyncFoveaClient(url, **settings) as client:
            return await client.predict([b"image"], request_id="mine")

    return asyncio.run(run())


both = pytest.mark.parametrize("predict", [predict_sync, predict_async], ids=["sync", "async"])


@both
@pytest.mark.parametrize("status", [429, 503])
def test_busy_service_is_asked_again(server: Server, predict: Predict, status: int) -> None:
    """The same request, image and id, until it is answered."""
    server.script = [busy(status), busy(status)]

    assert "eyes" == predict(server.url).model

    assert ["mine"] * 3 == [headers["x-request-id"] for headers in server.asked]
    assert all(b"image" in body for body in server.bodies)
    assert 3 == len(server.bodies)


@both
def test_retries_are_bounded(server: Server, predict: Predict) -> None:
    """After the last one the service's own words are the error."""
    server.script = [busy()] * 9

    with pytest.raises(FoveaError, match="too much to do") as caught:
        predict(server.url, retries=2)

    assert 3 == len(server.asked)
    assert ("overloaded", 503, "abc", 0.0) == (
        caught.value.code,
        caught.value.status_code,
        caught.value.request_id,
        caught.value.retry_after_s,
    )


@both
@pytest.mark.parametrize(
    "reply",
    [busy(retry_after=None), busy(retry_after="3600"), busy(500), busy(504), busy(422), busy(retry_after="soon")],
    ids=["no-header", "beyond-the-total-time", "500", "504", "422", "not-a-time"],
)
def test_what_cannot_help_is_not_tried_again(server: Server, predict: Predict, reply: Scripted) -> None:
    """Only a busy service that says when is asked again, and only if that is in time."""
    server.script = [reply]

    with pytest.raises(FoveaError, match="too much to do"):
        predict(server.url, timeout_s=30)

    assert 1 == len(server.asked)


@both
def test_total_time_is_kept(server: Server, predict: Predict) -> None:
    """A reply that does not come is an error of its own, and names the time."""
    server.script = [Scripted(200, delay_s=120)]
    start = time.monotonic()

    with pytest.raises(FoveaError, match=r"no answer from http://127\.0\.0\.1:\d+/? within 0\.5 s") as caught:
        predict(server.url, timeout_s=0.5)

    assert ("timeout", None, "mine") == (caught.value.code, caught.value.status_code, caught.value.request_id)
    assert time.monotonic() - start < 60


@both
def test_service_learns_how_long_the_client_waits(server: Server, predict: Predict) -> None:
    """Every attempt says what is left of the total time."""
    server.script = [busy(retry_after="1")]

    predict(server.url, timeout_s=40)

    first, second = (float(headers["x-request-timeout"]) for headers in server.asked)
    assert second + 1 <= first <= 40


@both
def test_key_is_sent(server: Server, predict: Predict) -> None:
    """And none is sent unless it was given."""
    predict(server.url, key="secret")
    predict(server.url)

    assert ["secret", None] == [headers.get("x-api-key") for headers in server.asked]


@both
def test_reply_has_types(server: Server, predict: Predict) -> None:
    """Classes, warnings and decisions are values; the JSON is there too."""
    result = predict(server.url)

    (prediction,) = result.predictions
    assert ("n1", "cat", 0.75) == (prediction.top[0].id, prediction.top[0].label, prediction.top[0].probability)
    assert ("unlike_training_images",) == prediction.warnings
    assert (True, 0.5) == (prediction.decisions[0].called, prediction.decisions[0].threshold)
    assert GOOD == result.document


def test_every_call_has_an_id_of_its_own(server: Server) -> None:
    """Two calls without one can be told apart in the service's log."""
    with FoveaClient(server.url) as client:
        client.predict([b"image"])
        client.predict([b"image"])

    assert 2 == len({headers["x-request-id"] for headers in server.asked})


def test_not_ready_is_an_answer(server: Server) -> None:
    """`ready` says what the service waits for, and does not wait itself."""
    server.script = [busy()]
    with FoveaClient(server.url) as client:
        found = client.ready()

    assert (False, False, "too much to do") == (bool(found), found.ready, found.reason)
    assert 1 == len(server.asked)


def test_waiting_for_readiness_ends(server: Server) -> None:
    """With the answer, or with the reason why there is none."""
    ready = Scripted(200, document={"status": "ready", "models": {"eyes": 3}})
    server.script = [busy(), busy(), ready]
    with FoveaClient(server.url) as client:
        assert {"eyes": 3} == client.wait_until_ready(60).models
        server.script = [busy()] * 1000
        with pytest.raises(FoveaError, match=r"not ready within 0\.5 s: too much to do") as caught:
            client.wait_until_ready(0.5)

    assert "not_ready" == caught.value.code


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 1, 3600),
        (format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), 0, 0),
    ],
    ids=["seconds", "date", "past"],
)
def test_retry_after_is_a_number_or_a_date(value: str, low: float, high: float) -> None:
    """Both forms of RFC 9110 are read."""
    seconds = read_retry_after(httpx2.Response(503, headers={"Retry-After": value}))

    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("value", ["", "-1", "soon", "1.5"])
def test_any_other_retry_after_is_none(value: str) -> None:
    """A proxy may send anything."""
    assert read_retry_after(httpx2.Response(503, headers={"Retry-After": value})) is None
