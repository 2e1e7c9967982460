"""Kept connections between two requests: the longest-idle closes first, and none that holds an unread request."""

from __future__ import annotations

import itertools
import select
from asyncio import BaseTransport, Transport
from collections import OrderedDict
from typing import Protocol

_MAX_TRIES = 64  # connections examined for one that can close


class IdleConnection(Protocol):
    """A connection that can wait for its next request."""

    transport: Transport

    def close_idle(self) -> None:
        """Close the connection."""


class IdleConnections:
    """The idle connections of one server, longest idle first."""

    def __init__(self) -> None:
        self._since: OrderedDict[IdleConnection, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def add(self, connection: IdleConnection, now: float) -> None:
        """Add a connection that has become idle."""
        self._since[connection] = now
        self._since.move_to_end(connection)

    def discard(self, connection: IdleConnection) -> None:
        """Remove a connection if it is idle."""
        self._since.pop(connection, None)

    def close_longest(self) -> bool:
        """Close the connection that has been idle longest; return False if there is none to close."""
        return any(self._close(connection) for connection in list(itertools.islice(self._since, _MAX_TRIES)))

    def close_expired(self, before: float) -> None:
        """Close the connections that became idle before a time of the event loop's clock."""
        expired = itertools.takewhile(lambda item: item[1] < before, self._since.items())
        for connection, _ in list(expired):
            self._close(connection)

    def _close(self, connection: IdleConnection) -> bool:
        if has_unread_bytes(connection.transport):
            return False
        self.discard(connection)
        connection.close_idle()
        return True


def has_unread_bytes(transport: BaseTransport) -> bool:
    """Return whether the kernel holds bytes, or the end of the stream, that the event loop has not read yet."""
    return bool(_poll(transport, select.POLLIN))


def was_reset(transport: BaseTransport) -> bool:
    """Return whether the peer has answered a write with a reset, as one does that has closed both directions."""
    return bool(_poll(transport, 0) & (select.POLLERR | select.POLLHUP))


def _poll(transport: BaseTransport, events: int) -> int:
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return 0
    poll = select.poll()
    poll.register(socket.fileno(), events)
    return next((found for _, found in poll.poll(0)), 0)
