"""Clients that take their time, or too much room; and the end of the process while clients are connected."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess, fetch, predict, wait_for_metric
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import StartProcess, publish_empty

PATIENCE_S = 60.0  # far beyond every limit below, for a busy machine
ORIGIN = "https://app.example.org"
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with short limits, ready; one for all, since what one client does must not harm the next."""
    with serving(tmp_path_factory.mktemp("connections"), "--header-timeout-s=1", "--body-timeout-s=2") as found:
        yield found


@pytest.fixture(scope="module")
def patient_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with the usual limits of time."""
    with serving(tmp_path_factory.mktemp("patient")) as found:
        yield found


@contextlib.contextmanager
def serving(folder: Path, *limits: str) -> Iterator[str]:
    """Run a gateway that takes 20 connections; give where it is once it is ready."""
    store = ModelStore(folder / "models")
    publish_empty(store)
    with ScriptedBackend(folder / "backend.sock") as server:
        server.versions["colours", 1] = scripted()
        flags = ("--port=0", "--max-connections=20", f"--cors-origins={ORIGIN}", *limits)
        process = ServiceProcess(
            ["gateway", f"--models-dir={store.root}", f"--backend={server.address}", *flags], folder
        )
        try:
            found = process.wait_for_url()
            process.wait_until_ready(found)
            yield found
        finally:
            process.stop()


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=PATIENCE_S)


def read_to_end(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", b"headers"),
        (b"POST /v1/pre", b"headers"),
        (HEAD, b"headers"),
        (HEAD + b"Content-Length: 9\r\n\r\nabc", b"body"),
    ],
    ids=["nothing", "request-line", "headers", "body"],
)
def test_request_that_never_ends_is_ended(url: str, sent: bytes, what: bytes) -> None:
    """Slow-loris: 408 and the connection is closed, whatever the client waits with."""
    with connect(url) as connection:
        connection.sendall(sent)
        reply = read_to_end(connection)

    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in reply
    assert what in reply


def test_dripping_does_not_help(url: str) -> None:
    """The time is for the whole head: a byte now and then buys none."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not stop.wait(0.2):
            try:
                connection.sendall(b"a")
            except OSError:
                return

    with connect(url) as connection:
        connection.sendall(HEAD + b"X-Slow: ")
        dripping = threading.Thread(target=drip, args=(connection,))
        dripping.start()
        try:
            status = connection.recv(13)
        finally:
            stop.set()
            dripping.join()

    assert b"HTTP/1.1 408 " == status


def test_blank_lines_after_an_answer_do_not_keep_a_connection(url: str) -> None:
    """A parser skips them without beginning a request."""
    with connect(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert b"ok" in reply.read()
        connection.sendall(b"\r\n")
        rest = read_to_end(connection)

    assert b"" == rest or rest.startswith(b"HTTP/1.1 408 ")


def test_slow_clients_do_not_hold_up_others(url: str) -> None:
    """Bodies that are being read take no places."""
    slow = [connect(url) for _ in range(10)]
    try:
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nabc")
        assert 200 == predict(url, encode("red")).status_code
    finally:
        for connection in slow:
            connection.close()


def test_headers_without_end_are_refused(url: str) -> None:
    """They would fill the memory."""
    with connect(url) as connection:
        try:
            for number in range(2000):
                connection.sendall(
                    b"POST /v1/predict HTTP/1.1\r\n" if number == 0 else b"X-%d: " % number + b"a" * 1000 + b"\r\n"
                )
                time.sleep(0.0005)
        except OSError:
            pass  # the server has closed the connection already
        try:
            reply = read_to_end(connection)
        except ConnectionError:
            reply = b"HTTP/1.1 431 "  # reset, because what was sent after the refusal is not read

    assert reply.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 408 "))


def test_what_is_not_http_is_400_as_json(patient_url: str) -> None:
    """The parser's refusal has the body of every other error."""
    with connect(patient_url) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        reply = read_to_end(connection)

    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b'"code": "malformed_request"' in reply


def test_connections_beyond_the_limit_are_refused_and_counted_out(patient_url: str) -> None:
    """503 at once; when others leave, there is room again."""
    idle = [connect(patient_url) for _ in range(20)]
    try:
        with connect(patient_url) as connection:
            refused = read_to_end(connection)
    finally:
        for connection in idle:
            connection.close()

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in refused
    deadline = time.monotonic() + PATIENCE_S
    while (reply := fetch(patient_url + "/healthz")) is None or reply.status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_client_that_does_not_read_its_replies_is_dropped(url: str) -> None:
    """A reply that lies unread is held for so long, not for ever."""
    with connect(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.settimeout(1)
        with pytest.raises(OSError):
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                try:
                    connection.sendall(request * 100)
                except TimeoutError:
                    continue  # the server reads no further requests; it has yet to give up
            pytest.fail("the connection is still open")


@pytest.fixture
def draining(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> Iterator[tuple[ServiceProcess, str]]:
    """A gateway that stops a while after it is told to."""
    process = start_process(
        "gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", "--shutdown-delay-s=2"
    )
    found = process.wait_for_url()
    process.wait_until_ready(found)
    yield process, found


def test_nothing_accepted_is_lost_by_sigterm(draining: tuple[ServiceProcess, str], backend: ScriptedBackend) -> None:
    """Under load, on new connections and kept ones: every request is answered or its connection refused, none reset."""
    process, url = draining
    backend.versions["colours", 1].delay_s = 0.02
    host = urlsplit(url).netloc
    image = encode("green")
    lost: list[str] = []
    answered: list[int] = []

    def ask(connection: http.client.HTTPConnection) -> bool:
        """Send one request; return whether the connection may be used again."""
        connection.request("POST", "/v1/predict", image)
        reply = connection.getresponse()
        reply.read()
        answered.append(reply.status)
        return not reply.will_close

    def hammer(keep: bool) -> None:
        while True:
            connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
            try:
                connection.connect()
            except OSError:
                return  # refused: the port is closed
            try:
                while ask(connection) and keep:
                    pass
            except (OSError, http.client.HTTPException) as err:
                lost.append(repr(err))
                return
            finally:
                connection.close()

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(hammer, number % 2 == 0) for number in range(8)]
        deadline = time.monotonic() + PATIENCE_S
        while len(answered) < 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send(signal.SIGTERM)
        for client in clients:
            client.result(PATIENCE_S)

    assert [] == lost
    assert {200} == set(answered)
    assert 0 == process.wait()


def test_request_that_is_on_its_way_when_the_port_closes_is_answered(
    gateway: tuple[ServiceProcess, str],
) -> None:
    """Headers sent, body not yet: it was accepted."""
    process, url = gateway
    image = encode("blue")
    with connect(url) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(image))
        wait_for_metric(url, "fovea_requests_in_flight 2.0")
        process.send(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while fetch(url + "/healthz") is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        connection.sendall(image)
        reply = read_to_end(connection)

    assert reply.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in reply
    assert 0 == process.wait()


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        pytest.param(b"X-A: b", 408, id="head"),
        pytest.param(b"Content-Length: 9\r\n\r\na", 408, id="body"),
        pytest.param(b"X-A: " + b"a" * 70_000 + b"\r\n\r\n", 431, id="long-head"),
        pytest.param(b"X-A: a\0\r\n\r\n", 400, id="malformed"),
    ],
)
@pytest.mark.parametrize("origin", [ORIGIN, "https://other.example.org"])
def test_pages_can_read_what_the_connection_itself_refuses(
    request: pytest.FixtureRequest, rest: bytes, status: int, origin: str
) -> None:
    """As far as their origin is known and one of those that may."""
    with connect(request.getfixturevalue("url" if status == 408 else "patient_url")) as connection:
        connection.sendall(HEAD + b"Origin: " + origin.encode() + b"\r\n" + rest)
        reply = read_to_end(connection).lower()

    assert reply.startswith(b"http/1.1 %d " % status)
    assert (origin == ORIGIN) == (b"\r\naccess-control-allow-origin: " + origin.encode() + b"\r\n" in reply)
    assert (origin == ORIGIN) == (b"access-control-allow-origin" in reply)
