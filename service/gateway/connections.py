"""One client's connection: uvicorn's, with bounds on how long and how much a client may keep it busy before an answer.

uvicorn bounds neither the time nor the size of a request's head, nor the time of its body, nor how long a reply may
lie unread: a few bytes now and then would hold a connection for ever. The times are looked at once a second, all
connections together; that costs a request nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.gateway.error_formats import format_message

MAX_HEAD_BYTES = 1 << 16
_REPLY_START = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")  # not 100 Continue
_LAST_REQUEST_S = 0.3  # how long a connection between requests is kept when the server stops: one may be on its way


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of a connection.

    Attributes:
        header_timeout_s: longest time from the first byte of a request, or the connection's start, to its headers' end.
        body_timeout_s: longest time from there to the body's end, and longest time that a reply may lie unread.
        max_connections: connections at a time; more are refused.
    """

    header_timeout_s: float
    body_timeout_s: float
    max_connections: int


class GuardedProtocol(HttpToolsProtocol):
    """HTTP on one connection; make a class with limits by `guarded_protocol`."""

    limits: ClassVar[ConnectionLimits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._due: float | None = None  # on the loop's clock: when what is awaited must have come
        self._in_body = False
        self._head_bytes = 0
        self._unread_since: float | None = None
        self._stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or refuse the connection."""
        super().connection_made(transport)
        self._corked = _Corked(transport, self.loop)
        self._due = self.loop.time() + self.limits.header_timeout_s
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "overloaded", f"{self.limits.max_connections} connections are open already, the most")

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        if self._due is None and self._is_between_requests():
            self._due = self.loop.time() + self.limits.header_timeout_s
            self._head_bytes = 0
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._due is not None and not self._in_body:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "headers_too_large", f"expected at most {MAX_HEAD_BYTES} bytes of headers")

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        super().on_headers_complete()
        self.cycle.transport = cast(asyncio.Transport, self._corked)
        self._in_body = True
        self._due = self.loop.time() + self.limits.body_timeout_s
        if self._stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Stop waiting: the request is whole."""
        super().on_message_complete()
        self._in_body = False
        self._due = None

    def pause_writing(self) -> None:
        """Remember since when the client does not read."""
        super().pause_writing()
        self._unread_since = self.loop.time()

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._unread_since = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, "malformed_request", "expected an HTTP request. Received: something else")

    def check_time(self, now: float) -> None:
        """End the connection if the client takes too long."""
        if self._unread_since is not None and now - self._unread_since > self.limits.body_timeout_s:
            self.transport.abort()
        elif self._due is None or now < self._due:
            return
        elif self.transport.is_closing():
            self.transport.abort()
        elif self._in_body and self.cycle.response_started:
            self.transport.close()  # it was answered before its end
        else:
            what = "body" if self._in_body else "headers"
            self._refuse(408, "request_timeout", f"the request's {what} did not arrive in time")

    def stop(self) -> None:
        """Let the next reply be the last."""
        self._stopping = True
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End after the request that is being answered or is on its way."""
        self.stop()
        if self._is_between_requests():
            self.loop.call_later(_LAST_REQUEST_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self._is_between_requests():
            self.transport.close()

    def _is_between_requests(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _path(self) -> str:
        """Return the path of the request that is being read, as far as it is known."""
        url: bytes = getattr(self, "url", b"")  # uvicorn sets it when a request begins
        return unquote(url.partition(b"?")[0].decode("latin-1"))

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer without the app, and close."""
        body = format_message(self._path(), code, message, request_id=uuid.uuid4().hex).encode()
        headers = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
        if status == 503:
            headers.append(b"retry-after: 1")
        self.transport.write(STATUS_LINE[status] + b"\r\n".join([*headers, b"", body]))
        self.transport.close()


class _Corked:
    """A transport that sends a reply's head and body together: one system call less, and the client wakes once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closing = transport.is_closing
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_REPLY_START):
            self._head = data
            self._loop.call_soon(self._flush)  # in case there is nothing to send with it
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


def guarded_protocol(limits: ConnectionLimits) -> type[GuardedProtocol]:
    """Return the protocol with these limits, as uvicorn takes it."""
    return cast(type[GuardedProtocol], type("GuardedProtocol", (GuardedProtocol,), {"limits": limits}))


def check_times(connections: Iterable[Any], now: float) -> None:
    """Look at the times of all connections.

    Args:
        connections: the server's.
        now: on the event loop's clock.
    """
    for connection in list(connections):
        if isinstance(connection, GuardedProtocol) and connection.transport is not None:
            connection.check_time(now)
