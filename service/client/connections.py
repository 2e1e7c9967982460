"""Tells whether a request failed because its connection, kept from an earlier one, had ended before a reply began."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import httpx2

_watching: ContextVar[ConnectionWatch | None] = ContextVar("fovea_connection_watch", default=None)

_CONNECTED = (".connect_tcp.complete", ".start_tls.complete")


class ConnectionWatch:
    """Follows the connection of one request by httpx's `trace` extension; use it in a `with` block.

    The server may close a kept connection while a request is on its way to it. RFC 9110 section 9.2.2 lets a client
    repeat the request then, if repeating it does no harm.
    """

    def __init__(self) -> None:
        self._is_kept = True
        self._has_reply = False

    def __enter__(self) -> ConnectionWatch:
        self._token = _watching.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watching.reset(self._token)

    def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Take an event of a synchronous client."""
        if name.endswith(_CONNECTED):
            self._is_kept = False
            _note_reads(info["return_value"])

    async def trace_async(self, name: str, info: Mapping[str, Any]) -> None:
        """Take an event of an asynchronous client."""
        self.trace(name, info)

    def note_reply(self) -> None:
        """Take the first bytes of a reply."""
        self._has_reply = True

    def allows_repeat(self, err: Exception) -> bool:
        """Return whether an error is the end of a kept connection before the first byte of a reply."""
        is_end = isinstance(err, httpx2.NetworkError | httpx2.RemoteProtocolError)
        return is_end and self._is_kept and not self._has_reply


def _note_reads(stream: Any) -> None:
    """Make a connection's stream tell the current request's watch of the bytes that it reads."""
    read = stream.read

    def note(data: bytes) -> bytes:
        watch = _watching.get()
        if data and watch is not None:
            watch.note_reply()
        return data

    def read_noted(*args: Any, **kwargs: Any) -> bytes:
        return note(read(*args, **kwargs))

    async def read_noted_async(*args: Any, **kwargs: Any) -> bytes:
        return note(await read(*args, **kwargs))

    stream.read = read_noted_async if inspect.iscoroutinefunction(read) else read_noted
