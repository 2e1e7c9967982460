"""The clients when the service is busy, slow or wants a key: against a real server that says what it is told."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import struct
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

from service.client import AsyncFoveaClient, FoveaClient, FoveaError, PredictResult, Readiness
from service.client.calls import read_retry_after

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
    """One reply: status, headers, JSON, how long it takes, and what is sent of it before the connection is cut."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    document: Any = field(default_factory=lambda: GOOD)
    delay_s: float = 0.0
    cut: bytes | None = None
    resets: bool = False


CUT = Scripted(200, cut=b"")


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
        self.ports: list[int] = []  # of the clients' ends of the connections
        self.released = threading.Event()
        self.hold: threading.Barrier | None = None  # requests wait there for each other

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

    def do_DELETE(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
        reply = self.server.script.pop(0) if self.server.script else Scripted(200)
        if self.server.hold is not None:
            self.server.hold.wait(60)
        self.server.released.wait(reply.delay_s)
        self.server.ports.append(self.client_address[1])
        if reply.cut is not None:
            self.wfile.write(reply.cut)
            self.close_connection = True
            if reply.resets:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
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


def test_waiting_for_readiness_is_the_same_when_awaited(server: Server) -> None:
    """With the answer, or with the reason why there is none."""
    server.script = [busy(), Scripted(200, document={"status": "ready", "models": {"eyes": 3}})]

    async def wait() -> Readiness:
        async with AsyncFoveaClient(server.url) as client:
            found = await client.wait_until_ready(60)
            server.script = [busy()] * 1000
            with pytest.raises(FoveaError, match=r"not ready within 0\.5 s: too much to do"):
                await client.wait_until_ready(0.5)
            return found

    assert {"eyes": 3} == asyncio.run(wait()).models


def test_both_clients_have_the_same_methods() -> None:
    """With the same arguments."""
    plain, awaited = (
        {name: inspect.signature(method) for name, method in vars(client).items() if not name.startswith("_")}
        for client in (FoveaClient, AsyncFoveaClient)
    )

    assert plain == awaited


@pytest.mark.parametrize(
    ("write", "low", "high"),
    [
        (lambda: "7", 7, 7),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 1, 3600),
        (lambda: format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), 0, 0),
    ],
    ids=["seconds", "date", "past"],
)
def test_retry_after_is_a_number_or_a_date(write: Callable[[], str], low: float, high: float) -> None:
    """Both forms of RFC 9110 are read."""
    value = write()
    seconds = read_retry_after(httpx2.Response(503, headers={"Retry-After": value}))

    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("value", ["", "-1", "soon", "1.5"])
def test_any_other_retry_after_is_none(value: str) -> None:
    """A proxy may send anything."""
    assert read_retry_after(httpx2.Response(503, headers={"Retry-After": value})) is None


Sending = Callable[[AsyncFoveaClient], Any]
CALLS: dict[str, Sending] = {
    "predict": lambda client: client.predict([b"image"]),
    "explain": lambda client: client.explain([b"image"]),
    "embed": lambda client: client.embed([b"image"]),
    "heat_map": lambda client: client.heat_map(b"image"),
    "feedback": lambda client: client.feedback(b"image", "cat", consent=True),
    "delete_feedback": lambda client: client.delete_feedback("1"),
}
HEAT_MAP_HEADERS = {"X-Model-Name": "eyes", "X-Model-Version": "3", "X-Class-Index": "1"}
EXPLANATIONS = {
    "models": {},
    "model": GOOD["model"],
    "explanations": [],
    "predictions": [],
    "embeddings": [],
    "dimension": 3,
    "request_id": "abc",
    "id": "1",
}
ANY = Scripted(200, HEAT_MAP_HEADERS, EXPLANATIONS)


def send_on_kept_connection(kind: str, server: Server, script: list[Scripted], sending: Sending) -> Any:
    """Send one request to open a connection, then another; the script is for the second one and those that follow."""
    server.script = [ANY, *script]
    if kind == "sync":
        with FoveaClient(server.url, retries=0) as client:
            client.ready()
            return sending(client)  # type: ignore[arg-type]

    async def run() -> Any:
        async with AsyncFoveaClient(server.url, retries=0) as client:
            await client.ready()
            return await sending(client)

    return asyncio.run(run())


kinds = pytest.mark.parametrize("kind", ["sync", "async"])


@kinds
@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("name", ["predict", "explain", "embed", "heat_map"])
def test_request_whose_kept_connection_has_ended_is_sent_once_more(
    server: Server, kind: str, name: str, resets: bool
) -> None:
    """On a new connection, whole and with the same id."""
    send_on_kept_connection(kind, server, [Scripted(200, cut=b"", resets=resets), ANY], CALLS[name])

    first, second, third = server.ports
    assert first == second != third
    assert 1 == len({headers["x-request-id"] for headers in server.asked[1:]})
    assert 1 == len({body.partition(b"\r\n\r\n")[2][:5] for body in server.bodies})


@kinds
@pytest.mark.parametrize("name", ["feedback", "delete_feedback"])
def test_feedback_is_never_sent_twice(server: Server, kind: str, name: str) -> None:
    """It may have been kept already."""
    with pytest.raises(FoveaError, match="no answer from") as caught:
        send_on_kept_connection(kind, server, [CUT, ANY], CALLS[name])

    assert "unreachable" == caught.value.code
    assert 2 == len(server.asked)


@kinds
def test_new_connection_that_ends_is_an_error(server: Server, kind: str) -> None:
    """Once means once."""
    with pytest.raises(FoveaError, match="no answer from"):
        send_on_kept_connection(kind, server, [CUT, CUT, ANY], CALLS["predict"])

    assert 3 == len(server.asked)


@kinds
@pytest.mark.parametrize(
    "cut", [b"H", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_reply_that_has_begun_is_not_asked_for_again(server: Server, kind: str, cut: bytes) -> None:
    """From its first byte on the request is known to have been taken."""
    with pytest.raises(FoveaError, match="no answer from"):
        send_on_kept_connection(kind, server, [Scripted(200, cut=cut), ANY], CALLS["predict"])

    assert 2 == len(server.asked)


@both
def test_first_request_of_a_connection_is_not_sent_again(server: Server, predict: Predict) -> None:
    """A service that ends new connections is broken, not idle."""
    server.script = [CUT]
    with pytest.raises(FoveaError, match="no answer from"):
        predict(server.url)

    assert 1 == len(server.asked)


def test_other_kept_connections_are_not_tried(server: Server) -> None:
    """They have ended too, most likely: the next connection is a new one."""
    with FoveaClient(server.url, retries=0) as client:
        server.hold = threading.Barrier(2)
        threads = [threading.Thread(target=client.predict, args=([b"image"],)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.hold = None
        assert 2 == len(set(server.ports))
        server.script = [CUT]
        client.predict([b"image"])

    assert 3 == len(set(server.ports))
    assert 4 == len(server.asked)
