"""A transport that sends a reply's head and body in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_REPLY_START = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")  # not 100 Continue


class CorkedTransport:
    """Holds a reply's head back until its body: one system call less, and the client wakes once."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_close: Callable[[], None]
    ) -> None:
        self.is_closing = transport.is_closing
        self._transport = transport
        self._loop = loop
        self._on_close = on_close
        self._head = b""

    def write(self, data: bytes) -> None:
        """Hold a reply's head back until its body is written; write anything else at once."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_REPLY_START):
            self._head = data
            self._loop.call_soon(self.flush)  # a reply without a body ends here
            return
        self._transport.write(data)

    def close(self) -> None:
        """Write the held bytes, and close."""
        self.flush()
        self._on_close()

    def flush(self) -> None:
        """Write the held bytes."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
