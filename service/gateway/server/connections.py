"""One client's connection, with bounds on how long a client may keep it busy or idle.

uvicorn bounds neither the time of a request's head or body nor how long a reply may lie unread. The times of all
connections are checked once a second, which costs a request nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from service.gateway.server.idle_connections import IdleConnections
from service.gateway.server.request_heads import Headers, RefusedRequest
from service.gateway.server.strict_protocol import StrictProtocol

_LAST_REQUEST_S = 1.0  # how long a connection between requests is kept when the server stops: one may be on its way


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of a connection.

    Attributes:
        header_timeout_s: longest time from the first byte of a request, or the connection's start, to its headers' end.
        body_timeout_s: longest time from there to the body's end, and longest time that a reply may lie unread.
        keep_alive_timeout_s: longest time between a reply and the next request.
        max_connections: connections at a time; a further one replaces the longest idle, or is refused.
    """

    header_timeout_s: float
    body_timeout_s: float
    keep_alive_timeout_s: float
    max_connections: int


class GuardedProtocol(StrictProtocol):
    """HTTP on one connection; make a class with limits by `guarded_protocol`."""

    limits: ClassVar[ConnectionLimits]
    idle: ClassVar[IdleConnections]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._due: float | None = None  # on the loop's clock: when the next bytes must have come
        self._unread_since: float | None = None
        self._stopping = False

    @classmethod
    def check_times(cls, connections: Iterable[Any], now: float) -> None:
        """Checks the times of all connections.

        Args:
            connections: the server's.
            now: on the event loop's clock.
        """
        for connection in list(connections):
            if isinstance(connection, GuardedProtocol) and connection.transport is not None:
                connection.check_time(now)
        cls.idle.close_expired(now - cls.limits.keep_alive_timeout_s)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock of the first request; beyond the limit closes an idle connection, or refuses this one."""
        super().connection_made(transport)
        self._due = self.loop.time() + self.limits.header_timeout_s
        limit = self.limits.max_connections
        if len(self.connections) > limit and not self.idle.close_longest():
            message = f"too many open connections: the limit is {limit:,} (FOVEA_MAX_CONNECTIONS)"
            self.refuse(RefusedRequest(503, "overloaded", message), lingers=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self.idle.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the clock of a request, and parses."""
        self.idle.discard(self)
        if self._due is None and self.is_between_requests():
            self._due = self.loop.time() + self.limits.header_timeout_s
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Starts the clock of a request that follows another one without a pause."""
        super().on_message_begin()
        if self._due is None:
            self._due = self.loop.time() + self.limits.header_timeout_s

    def on_headers_complete(self) -> None:
        """Starts the clock of the body."""
        super().on_headers_complete()
        if self._in_body:
            self._due = self.loop.time() + self.limits.body_timeout_s
            if self._stopping:
                self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Stops the clock: the request is whole."""
        super().on_message_complete()
        if not self._in_body:
            self._due = None
            self._note_idle()

    def on_response_complete(self) -> None:
        """Starts the clock of an idle connection."""
        super().on_response_complete()
        self._note_idle()

    def pause_writing(self) -> None:
        """Notes since when the client does not read."""
        super().pause_writing()
        self._unread_since = self.loop.time()

    def resume_writing(self) -> None:
        """Notes that the client reads."""
        super().resume_writing()
        self._unread_since = None

    def end_after_replies(self, last_words: bytes) -> None:
        """Stops the clock: no more is read."""
        super().end_after_replies(last_words)
        self._due = None

    def check_time(self, now: float) -> None:
        """Ends the connection if the client takes too long."""
        if self._unread_since is not None and now - self._unread_since > self.limits.body_timeout_s:
            self.transport.abort()
        elif self._due is None or now < self._due:
            return
        elif self.transport.is_closing():
            self.transport.abort()
        else:
            self.refuse(self._describe_delay())

    def stop(self) -> None:
        """Makes the next reply the last."""
        self._stopping = True
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Ends the connection after the request that is being answered or is on its way."""
        self.stop()
        if self.is_between_requests():
            self.loop.call_later(_LAST_REQUEST_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def close_idle(self) -> None:
        """Closes the connection between two requests."""
        self._due = self.loop.time() + self.limits.header_timeout_s  # for a TLS client that does not close its side
        self._close()

    def _close_if_idle(self) -> None:
        if self.is_between_requests():
            self.transport.close()

    def _note_idle(self) -> None:
        if not (self._in_head or self._in_body or self.transport.is_closing()) and self.is_between_requests():
            self.idle.add(self, self.loop.time())

    def _describe_delay(self) -> RefusedRequest:
        limits = self.limits
        if self._in_body:
            part, limit_s, setting = "body", limits.body_timeout_s, "FOVEA_BODY_TIMEOUT_S"
        else:
            part, limit_s, setting = "headers", limits.header_timeout_s, "FOVEA_HEADER_TIMEOUT_S"
        message = f"the request's {part} did not arrive in time: the limit is {limit_s:g} s ({setting})"
        return RefusedRequest(408, "request_timeout", message)


def guarded_protocol(
    limits: ConnectionLimits, headers_for: Callable[[Headers], Headers] = lambda _: (), prefix: str = ""
) -> type[GuardedProtocol]:
    """Return the protocol with these limits, as uvicorn takes it.

    Args:
        limits: of each connection.
        headers_for: from a request's headers to those of a reply that the connection gives itself.
        prefix: of the paths, where a proxy serves the gateway below one.
    """
    namespace = {
        "limits": limits,
        "idle": IdleConnections(),
        "headers_for": staticmethod(headers_for),
        "prefix": prefix,
    }
    return cast(type[GuardedProtocol], type("GuardedProtocol", (GuardedProtocol,), namespace))
