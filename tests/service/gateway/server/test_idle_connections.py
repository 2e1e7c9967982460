"""Kept connections: how long they stay, which one closes first, and none under a request that has come."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from service.gateway.context.settings import Settings
from tests.helpers.wire_server import LIMITS, Client, WireServer, run, wire_server

ASK = b"GET /asked HTTP/1.1\r\nHost: x\r\n\r\n"
FEW = dataclasses.replace(LIMITS, max_connections=3)


async def ask(client: Client) -> int:
    await client.send(ASK)
    return (await client.read_reply()).status


def check_times(server: WireServer, later_s: float) -> None:
    """Check the times as the server does, that many seconds later."""
    server.protocol.check_times(server.connections, asyncio.get_running_loop().time() + later_s)


async def is_open(client: Client) -> bool:
    """Return whether a request is answered."""
    try:
        return await ask(client) == 200
    except (AssertionError, OSError):
        return False


def test_default_is_longer_than_proxies_keep_theirs() -> None:
    """Those of nginx and of clouds' load balancers: 60 s."""
    assert 75.0 == Settings(models=("eyes",)).keep_alive_timeout_s


def test_idle_connection_closes_after_its_time() -> None:
    """Counted from the reply; one that has not been answered yet has the time of headers."""

    async def test() -> None:
        limits = dataclasses.replace(LIMITS, keep_alive_timeout_s=20.0)
        async with wire_server(limits) as server:
            kept, fresh = await server.connect(), await server.connect()
            assert 200 == await ask(kept)
            check_times(server, 19.0)
            assert await is_open(kept)
            check_times(server, 21.0)
            assert b"" == await kept.read()
            assert await is_open(fresh)

    run(test())


@pytest.mark.parametrize("sent", [ASK, ASK[:10], b"\r\n"], ids=["whole", "part", "blank"])
def test_request_that_has_arrived_is_not_closed_upon(sent: bytes) -> None:
    """The kernel has its bytes, the event loop has not read them, and time is up."""

    async def test() -> None:
        async with wire_server() as server:
            client = await server.connect()
            assert 200 == await ask(client)
            client.send_at_once(sent)
            check_times(server, LIMITS.keep_alive_timeout_s + 1)
            assert not server.protocol.idle.close_longest()
            client.send_at_once(ASK[len(sent) :] if ASK.startswith(sent) else ASK)
            assert 200 == (await client.read_reply()).status

    run(test())


def test_longest_idle_makes_room() -> None:
    """In the order of their last replies, not of their start; each newcomer is served."""

    async def test() -> None:
        async with wire_server(FEW) as server:
            a, b, c = [await server.connect() for _ in range(3)]
            for client in (b, c, a):
                assert 200 == await ask(client)
            for longest in (b, c):
                newcomer = await server.connect()
                assert 200 == await ask(newcomer)
                assert b"" == await longest.read()
            assert await is_open(a)

    run(test())


def test_busy_connections_are_never_closed_for_others() -> None:
    """A request on its way in or being answered, and a connection without one yet, keep theirs: 503 for the next."""

    async def test() -> None:
        async with wire_server(FEW) as server:
            waiting, partial, fresh = [await server.connect() for _ in range(3)]
            assert 200 == await ask(partial)
            await partial.send(ASK[:10])
            server.gate.clear()
            await waiting.send(ASK)
            refused = await server.connect()
            answer = await refused.read_reply()
            assert (
                503,
                "overloaded",
                "too many open connections: the limit is 3 (FOVEA_MAX_CONNECTIONS)",
            ) == answer.error
            assert "1" == answer.headers["retry-after"]
            server.gate.set()
            assert 200 == (await waiting.read_reply()).status
            assert await is_open(fresh)
            await partial.send(ASK[10:])
            assert 200 == (await partial.read_reply()).status

    run(test())


def test_reply_before_the_bodys_end_is_not_idle() -> None:
    """The rest of the body belongs to the request that was answered."""

    async def test() -> None:
        async with wire_server(FEW) as server:
            client = await server.connect()
            server.answers_early = True
            await client.send(b"POST /asked HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n")
            assert 200 == (await client.read_reply()).status
            assert 0 == len(server.protocol.idle)
            server.answers_early = False
            await client.send(b"GET /hidden HTTP/1.1\r\nHost: y\r\n\r\n")
            assert 1 == len(server.protocol.idle)
            assert 200 == await ask(client)
            assert ["/asked"] == [asked.target for asked in server.asked]

    run(test())
