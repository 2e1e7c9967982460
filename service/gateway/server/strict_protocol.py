"""HTTP/1.1 on uvicorn's httptools protocol, with exactly one reply to every request.

uvicorn drops the body of a request that asks for an upgrade and parses the rest of it as the next request; it adds
trailer fields to the headers, answers a malformed request before those that came first, bounds no head, and drops a
request whose client has shut down its sending side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.gateway.server.idle_connections import was_reset
from service.gateway.server.request_heads import (
    MAX_HEAD_BYTES,
    Headers,
    RefusedRequest,
    check_head_size,
    check_transfer_encoding,
    check_version,
    head_without_upgrade,
    malformed,
    oversized_framing,
    oversized_head,
)

_PROBE_AFTER_S = 1.0  # from the end of a client's sending side to the first check that the client still reads
_LINGER_S = 2.0  # from a refusal to the end of reading
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHECKED = frozenset({b"expect", b"host", b"transfer-encoding"})


class StrictProtocol(HttpToolsProtocol):
    """The requests of one connection.

    Attributes:
        headers_for: gives refusals the headers that depend on the request's.
        prefix: of the paths, where a proxy serves the gateway below one.
    """

    headers_for: ClassVar[Callable[[Headers], Headers]] = staticmethod(lambda _: ())
    prefix: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""  # uvicorn sets it when a request begins
        self._in_head = False
        self._in_body = False
        self._head_bytes = 0  # of the unfinished head, less what came in one packet with an earlier request's end
        self._most_head_bytes = 0  # with all of that packet
        self._hosts: list[bytes] = []
        self._framing_bytes = 0  # since the last byte of a body: chunk extensions and trailer fields
        self._upgrade: bytes | None = None  # the head to parse instead of one that asks for an upgrade
        self._running: RequestResponseCycle | None = None  # the request that is being answered
        self._last_words: bytes | None = None  # sent after the replies that are owed; then the connection closes
        self._lingering = False  # whether the connection is closed for sending

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the transport."""
        super().connection_made(transport)
        self._reply_transport = cast(asyncio.Transport, _ReplyTransport(transport, self._close))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the request that is being answered."""
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            _disconnect(self._running)

    def data_received(self, data: bytes) -> None:
        """Parses some bytes of requests."""
        if self._last_words is not None or self.transport.is_closing():
            return
        starts_in_head = not self._in_body
        self._framing_bytes += len(data)
        self._most_head_bytes = len(data) + (self._most_head_bytes if self._in_head else 0)
        try:
            self._feed(data)
        except httptools.HttpParserError as err:
            reason = err.__context__ or err
            self.refuse(reason if isinstance(reason, RefusedRequest) else malformed(f"not valid HTTP/1.1: {reason}"))
            return
        if self._in_head and starts_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.refuse(oversized_head(self._head_bytes))
        elif self._in_body and self._framing_bytes > MAX_HEAD_BYTES:
            self.refuse(oversized_framing(self._framing_bytes))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps the connection open for the replies to whole requests when the client shuts down its sending side.

        TLS has no half-closed connections in asyncio or uvloop: there the connection ends.
        """
        if self._lingering or self.transport.is_closing() or self.scheme == "https":
            return False
        if self._last_words is None:
            if (self._in_body and not self._drop_unfinished()) or self.is_between_requests():
                return False
            if not self.cycle.response_started:
                self.cycle.keep_alive = False
            self.end_after_replies(b"")
            self.loop.call_later(_PROBE_AFTER_S, self._probe, _PROBE_AFTER_S)
        return True

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._hosts = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header; trailer fields are dropped, since proxies filter headers only."""
        if not self._in_head:
            return
        name = name.lower()
        if name in _CHECKED:
            if name == b"host":
                self._hosts.append(value)
            elif name == b"transfer-encoding":
                check_transfer_encoding(value)
            elif value.lower() == b"100-continue":
                self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Starts a request, or queues it behind those before it."""
        check_version(self.parser.get_http_version(), self._hosts)
        if self._most_head_bytes > MAX_HEAD_BYTES:
            check_head_size(self.url, self.headers)
        if self.parser.should_upgrade():
            self._set_upgrade_aside()
            return
        super().on_headers_complete()
        self._framing_bytes = 0
        self.cycle.transport = self._reply_transport
        self._in_head = False
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        """Takes a part of a body."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request's body."""
        if self._upgrade is None:
            super().on_message_complete()
            self._in_body = False

    def on_response_complete(self) -> None:
        """Starts the next request, or ends the connection if there will be none."""
        self.server_state.total_requests += 1
        if self._lingering or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._end()

    def is_between_requests(self) -> bool:
        """Return whether every request whose head is whole has been answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def refuse(self, refusal: RefusedRequest, *, lingers: bool = True) -> None:
        """Answers the request that is being received, after the replies to those before it, and closes.

        Args:
            refusal: the reply.
            lingers: whether to read on for a while, so that a client that still sends can read the reply.
        """
        headers = type(self).headers_for(self.headers or ())
        reply = refusal.build_reply(self.url, headers, root_path=self.prefix)
        if self._in_body and not self._drop_unfinished():
            if self.cycle.response_started:
                self._close()  # this request has its reply, or the start of one
                return
            _disconnect(self.cycle)
        elif not self.is_between_requests():
            self.end_after_replies(reply)
            return
        self.end_after_replies(reply)
        self._end(lingers=lingers)

    def end_after_replies(self, last_words: bytes) -> None:
        """Reads no more requests, answers those that are whole, writes the last words and closes."""
        self._last_words = last_words
        self._in_head = self._in_body = False

    def _end(self, *, lingers: bool = True) -> None:
        """Writes the last words and closes, a refusal's sending side first.

        A socket that is closed while the client still sends resets the connection, and the client may lose the reply.
        """
        words = self._last_words or b""
        if words:
            self.transport.write(words)
        if not (words and lingers):
            self._close()
        else:
            self._linger()

    def _close(self) -> None:
        """Closes after the last reply; one that is given before the whole body is here is a refusal as well."""
        if self._in_body and not self._lingering:
            self.end_after_replies(b"")
            self._linger()
        elif not self._lingering:
            self.transport.close()

    def _linger(self) -> None:
        """Closes the sending side, and reads on for a while."""
        if self.scheme == "https":
            self.transport.close()
            return
        self._lingering = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> None:
        """Parses bytes; a request that asks for an upgrade is parsed again as one that does not.

        llhttp ends such a request after its head and takes the body for bytes of the other protocol.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
            head, self._upgrade = self._upgrade or b"", None
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self.parser.feed_data(head)

    def _set_upgrade_aside(self) -> None:
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise malformed("CONNECT: this server is not a proxy")
        self._upgrade = head_without_upgrade(method, self.url, self.parser.get_http_version(), self.headers)

    def _drop_unfinished(self) -> bool:
        """Forgets the request whose body is being received if requests before it are unanswered."""
        if not self.pipeline or self._running is None:
            return False
        self.pipeline.popleft()
        self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        self._in_body = False
        return True

    def _probe(self, wait_s: float) -> None:
        """Sends an interim reply to a client that has shut down its sending side.

        A client that has closed its socket sends the same packet. Its reset, in answer to a write, tells the two apart,
        and the work for it is dropped.
        """
        if self.transport.is_closing() or self._running is None or self._running.response_complete:
            return
        if was_reset(self.transport):
            self.transport.abort()
            return
        if not self._running.response_started and self._running.scope["http_version"] != "1.0":
            self.transport.write(_CONTINUE)
        self.loop.call_later(wait_s, self._probe, 2 * wait_s)


class _ReplyTransport:
    """A transport as replies use it: `close` asks the protocol, which may read on for a while.

    Args:
        transport: of the connection.
        close: ends the connection after the last reply.
    """

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Tells a request's app that the client has gone."""
    cycle.disconnected = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
