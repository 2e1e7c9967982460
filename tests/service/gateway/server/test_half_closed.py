"""Clients that shut down their sending side, or leave; and the order of replies and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from urllib.parse import urlsplit

import pytest
import trustme

from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.helpers.wire_server import PATIENCE_S, Asked, WireServer, parse_replies, requests_of, run, wire_server

FIRST = b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nimage"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
ASKED = [Asked("POST", "/first", b"image"), Asked("GET", "/second", b"")]
CUT = b"POST /third HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nim"
BROKEN = b"GET /third HTTP/1.1\r\nHost : x\r\n\r\n"


async def until(condition: asyncio.Event) -> None:
    await asyncio.wait_for(condition.wait(), PATIENCE_S)


async def ask_and_shut_down(server: WireServer, data: bytes) -> list[Asked]:
    """Send requests while the app waits, shut down the sending side, and let the app answer afterwards."""
    server.gate.clear()
    client = await server.connect()
    with contextlib.closing(client):
        await client.send(data)
        client.shut_down()
        await until(server.ended)
        server.gate.set()
        return requests_of(parse_replies(await client.read_to_end()))


@pytest.mark.parametrize("rest", [b"", b"GET /thi", CUT], ids=["whole", "head", "body"])
def test_whole_requests_are_answered_after_shut_wr(rest: bytes) -> None:
    """Those before an unfinished one too."""

    async def ask() -> list[Asked]:
        async with wire_server() as server:
            return await ask_and_shut_down(server, FIRST + SECOND + rest)

    assert ASKED == run(ask())


@pytest.mark.parametrize("data", [b"", b"GET /thi", CUT], ids=["nothing", "head", "body"])
def test_unfinished_request_ends_with_shut_wr(data: bytes) -> None:
    """The rest will not come."""

    async def ask() -> bytes:
        async with wire_server() as server:
            client = await server.connect()
            if data:
                await client.send(data)
            client.shut_down()
            reply = await client.read_to_end()
            client.close()
            return reply

    assert b"" == run(ask())


def test_app_learns_that_a_client_has_closed() -> None:
    """The packet is the same as of one that still reads: a probe tells them apart."""

    async def ask() -> None:
        async with wire_server() as server:
            server.gate.clear()
            client = await server.connect()
            await client.send(FIRST)
            client.close()
            await until(server.left)

    run(ask())


def test_client_that_reads_gets_its_reply_after_probes() -> None:
    """Interim replies come first, as RFC 9110, 15.2 allows."""

    async def ask() -> list[Asked]:
        async with wire_server() as server:
            server.gate.clear()
            client = await server.connect()
            await client.send(FIRST)
            client.shut_down()
            data = await client.read()
            assert data.startswith(b"HTTP/1.1 100 ")
            server.gate.set()
            data += await client.read_to_end()
            client.close()
            return requests_of(parse_replies(data))

    assert ASKED[:1] == run(ask())


def test_reset_tells_the_running_request_of_a_pipeline() -> None:
    """Not only the last one that was queued."""

    async def ask() -> None:
        async with wire_server() as server:
            server.gate.clear()
            client = await server.connect()
            await client.send(FIRST + SECOND)
            client.reset()
            await until(server.left)

    run(ask())


@pytest.mark.parametrize("broken", [BROKEN, b"POST /third HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx"])
def test_refusal_waits_for_the_replies_before_it(broken: bytes) -> None:
    """A malformed request behind others, of which the first is still being answered."""

    async def ask() -> None:
        async with wire_server() as server:
            server.gate.clear()
            client = await server.connect()
            await client.send(FIRST + SECOND + broken + SECOND)
            server.gate.set()
            answers = parse_replies(await client.read_to_end())
            client.close()
            assert ASKED == requests_of(answers)
            assert [200, 200, 400] == [answer.status for answer in answers]

    run(ask())


def test_tls_connection_ends_with_the_clients_side(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS has no half-closed connections here: the app is told, and nothing is logged."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    client_context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())

    def leave(address: tuple[str, int], ready: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        end = socket.create_connection(address, PATIENCE_S)
        with client_context.wrap_socket(end, server_hostname="127.0.0.1") as secure:
            secure.sendall(FIRST)
            asyncio.run_coroutine_threadsafe(until(ready), loop).result(PATIENCE_S)
            with contextlib.suppress(OSError):
                secure.unwrap()

    async def ask() -> None:
        async with wire_server(secure=server_context) as server:
            server.gate.clear()
            leaving = asyncio.to_thread(leave, server.address, server.received, asyncio.get_running_loop())
            await asyncio.gather(leaving, until(server.left))

    with caplog.at_level(logging.DEBUG):
        run(ask())
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_gateway_answers_after_shut_wr(gateway: tuple[ServiceProcess, str], backend: ScriptedBackend) -> None:
    """The process as a whole; the model server takes its time."""
    _, url = gateway
    backend.versions["colours", 1].delay_s = 0.3
    image = encode("red")
    parts = urlsplit(url)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), PATIENCE_S) as connection:
        connection.sendall(head % len(image) + image)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while piece := connection.recv(65536):
            data += piece

    (answer,) = parse_replies(data)
    assert 200 == answer.status
    assert "Red" == json.loads(answer.body)["predictions"][0]["top"][0]["label"]
