"""The gateway's HTTP protocol on a real socket, before an app that tells what it was asked; and h11 beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import h11
import uvicorn
import uvloop
from uvicorn.server import ServerState

from service.gateway.server.connections import ConnectionLimits, GuardedProtocol, guarded_protocol

PATIENCE_S = 60.0
LIMITS = ConnectionLimits(
    header_timeout_s=PATIENCE_S, body_timeout_s=PATIENCE_S, keep_alive_timeout_s=PATIENCE_S, max_connections=1000
)

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One request as it reached an app: method, target and body."""

    method: str
    target: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One reply: its status, headers in lower case, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def asked(self) -> Asked:
        """The request that the app was asked."""
        document = json.loads(self.body)
        return Asked(document["method"], document["target"], document["body"].encode("latin-1"))

    @property
    def header_names(self) -> list[str]:
        """Names of the request's headers."""
        return cast(list[str], json.loads(self.body)["headers"])

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, code and message of an error."""
        error = json.loads(self.body)["error"]
        return self.status, error["code"], error["message"]


class WireServer:
    """A listening server for one test; its requests are held back while `gate` is cleared."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[Asked] = []
        self.left = asyncio.Event()  # set when an app is told that its client has gone
        self.received = asyncio.Event()  # set by every packet
        self.ended = asyncio.Event()  # set when a client has closed its sending side
        self.lost = asyncio.Event()  # set when a connection has ended
        self.clients: list[Client] = []
        self.connections: set[GuardedProtocol] = set()
        self.protocol: type[GuardedProtocol] = GuardedProtocol
        self.address: tuple[str, int] = ("", 0)
        self.answers_early = False  # before the body is read

    async def app(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Reads the body and tells it."""
        body = b""
        while not self.answers_early:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        query = scope["query_string"].decode()
        asked = Asked(scope["method"], scope["path"] + ("?" + query if query else ""), body)
        if not self.answers_early:
            self.asked.append(asked)
        watch = asyncio.create_task(self._watch(receive))
        await self.gate.wait()
        watch.cancel()
        names = [name.decode("latin-1") for name, _ in scope["headers"]]
        document = {"method": asked.method, "target": asked.target, "body": body.decode("latin-1"), "headers": names}
        text = json.dumps(document).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _watch(self, receive: Callable[[], Awaitable[Any]]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()

    async def connect(self) -> Client:
        """Return a new connection."""
        self.lost.clear()
        self.clients.append(await Client.open(self))
        return self.clients[-1]

    async def exchange(self, *pieces: bytes) -> list[Answer]:
        """Send packets, each after the one before was taken, and return the replies until the server closes."""
        client = await self.connect()
        with contextlib.closing(client):
            with contextlib.suppress(OSError):
                for piece in pieces:
                    await client.send(piece)
                client.shut_down()
            return parse_replies(await client.read_to_end())


class Client:
    """A client's end of a connection."""

    def __init__(self, server: WireServer, end: socket.socket) -> None:
        self._server = server
        self._end = end
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, server: WireServer) -> Client:
        """Connect to a server."""
        end = socket.socket()
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(end, server.address)
        return cls(server, end)

    async def send(self, data: bytes) -> None:
        """Send bytes and wait until the server has taken some, or has gone."""
        self._server.received.clear()
        await self._loop.sock_sendall(self._end, data)
        if not self._server.lost.is_set():
            await asyncio.wait_for(self._server.received.wait(), PATIENCE_S)

    def send_at_once(self, data: bytes) -> None:
        """Send bytes without giving the server a turn."""
        self._end.send(data)

    def reset(self) -> None:
        """Close both sides with a reset."""
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end.close()

    def shut_down(self) -> None:
        """Close the sending side."""
        self._end.shutdown(socket.SHUT_WR)

    async def read(self) -> bytes:
        """Return some bytes, none at the end."""
        return await asyncio.wait_for(self._loop.sock_recv(self._end, 1 << 16), PATIENCE_S)

    async def read_to_end(self) -> bytes:
        """Return what comes until the server closes."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.read():
                data += piece
        return data

    async def read_reply(self) -> Answer:
        """Return one reply."""
        data = b""
        while not (found := parse_replies(data)):
            piece = await self.read()
            assert piece, data
            data += piece
        (answer,) = found
        return answer

    def close(self) -> None:
        """Close both sides."""
        self._end.close()


@contextlib.asynccontextmanager
async def wire_server(
    limits: ConnectionLimits = LIMITS, *, secure: ssl.SSLContext | None = None
) -> AsyncIterator[WireServer]:
    """Run a server while the block runs, over TLS if it is given a context."""
    server = WireServer()
    state = ServerState()
    server.protocol = guarded_protocol(limits)

    class Observed(server.protocol):  # type: ignore[name-defined, misc]
        """The protocol; says when a packet was taken."""

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            server.received.set()

        def eof_received(self) -> bool:
            try:
                return bool(super().eof_received())
            finally:
                server.ended.set()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            server.lost.set()
            server.received.set()

    config = uvicorn.Config(
        server.app,
        interface="asgi3",
        proxy_headers=False,
        http=Observed,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    config.load()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: Observed(config=config, server_state=state, app_state={}), "127.0.0.1", 0, ssl=secure
    )
    server.address = listening.sockets[0].getsockname()
    server.connections = cast(set[GuardedProtocol], state.connections)
    try:
        yield server
    finally:
        server.gate.set()
        listening.close()
        for connection in list(state.connections):
            cast(GuardedProtocol, connection).transport.abort()
        for client in server.clients:
            client.close()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test on uvloop, as the gateway does."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(test)


def parse_replies(data: bytes) -> list[Answer]:
    """Return the replies that bytes hold; interim ones are left out, an unfinished one too."""
    answers = []
    while (end := data.find(b"\r\n\r\n")) >= 0:
        head, data = data[:end].decode("latin-1"), data[end + 4 :]
        found = re.match(r"HTTP/1\.1 (\d{3})", head)
        assert found is not None, head
        if found[1] == "100":
            continue
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
        length = int(headers["content-length"])
        if len(data) < length:
            break
        answers.append(Answer(int(found[1]), headers, data[:length]))
        data = data[length:]
    return answers


def read_with_h11(data: bytes) -> list[Asked]:
    """Return the requests that h11 finds in bytes until it refuses them or a connection would end.

    Blank lines before a request are left out, which RFC 9112 section 2.2 asks of servers and h11 does not do.
    """
    found: list[Asked] = []
    while data := data.lstrip(b"\r\n"):
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        try:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                break
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            break
        if not isinstance(event, h11.EndOfMessage):
            break
        found.append(Asked(request.method.decode(), request.target.decode("latin-1"), body))
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            break
        data = connection.trailing_data[0]
    return found


def requests_of(answers: Sequence[Answer]) -> list[Asked]:
    """Return the requests that reached the app."""
    return [answer.asked for answer in answers if answer.status == 200]
