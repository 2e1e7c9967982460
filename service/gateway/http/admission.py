"""Admits a bounded number of requests at a time, queues a bounded number and refuses the rest.

A place is held while images are decoded and the model server works, not while a body is read or a reply is sent: slow
clients take no places.
"""

from __future__ import annotations

import asyncio
from collections import deque

from service.gateway.context.errors import OverloadedError
from service.gateway.telemetry.metrics import Metrics


class Admission:
    """Places for requests at work and a bounded queue before them; first come, first served.

    Args:
        max_working: requests that are worked on at once; fewer than the model server lets wait.
        max_waiting: requests that wait for a place; more are refused at once.
        max_held_bytes: bytes of bodies, inflated, that all requests together hold; more are refused at once.
        metrics: where waiting is timed and refusals are counted.
    """

    def __init__(self, *, max_working: int, max_waiting: int, max_held_bytes: int, metrics: Metrics) -> None:
        self._max_working = max_working
        self._free = max_working
        self._max_waiting = max_waiting
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._metrics = metrics

    @property
    def is_quiet(self) -> bool:
        """True if at most one request is worked on."""
        return self._free >= self._max_working - 1

    @property
    def is_busy(self) -> bool:
        """True if half of the places are taken by others than the request that asks, or a request waits."""
        return bool(self._waiting) or 2 * self._free < self._max_working - 1

    def check(self) -> None:
        """Refuse a request before its body is read if it would be refused afterwards.

        Raises:
            OverloadedError: if the queue is full.
        """
        if not self._free and len(self._waiting) >= self._max_waiting:
            self._metrics.count_shed("queue_full")
            raise OverloadedError(
                f"too many requests wait: the limit is {self._max_waiting} (FOVEA_MAX_QUEUE); try again later"
            )

    def hold(self, num_bytes: int) -> None:
        """Count bytes of a body that is being read; a negative number when they are let go of.

        Raises:
            OverloadedError: if they are too many together with those of others; they are counted all the same.
        """
        self._held_bytes += num_bytes
        if num_bytes > 0 and self._held_bytes > self._max_held_bytes:
            self._metrics.count_shed("too_many_bytes")
            raise OverloadedError("too many large bodies are being read; try again later")

    def hold_bytes(self) -> HeldBytes:
        """Return a count of the bytes that one request holds; to be released at its end."""
        return HeldBytes(self)

    def place(self) -> Place:
        """Hold a place while a block runs, an asynchronous context manager; wait for one if there is none.

        Raises:
            OverloadedError: if too many requests wait already.
        """
        return Place(self)

    async def take(self) -> None:
        """Take a place; see `place`, which gives it back."""
        with self._metrics.stage("queue"):
            if self._free:  # then no request waits: a returned place goes to the queue first
                self._free -= 1
            else:
                await self._wait()

    def give_back(self) -> None:
        """Give a place back, to the request that has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def _wait(self) -> None:
        self.check()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give_back()  # it was given a place in the moment it gave up
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise


class HeldBytes:
    """Counts the bytes that one request holds."""

    __slots__ = ("_admission", "_num_bytes")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Count bytes of a body that is being read.

        Raises:
            OverloadedError: if they are too many together with those of others; they are counted all the same.
        """
        self._num_bytes += num_bytes
        self._admission.hold(num_bytes)

    def release(self) -> None:
        """Let go of all of them."""
        self._admission.hold(-self._num_bytes)


class Place:
    """A place at work, held while the block runs."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def __aenter__(self) -> None:
        await self._admission.take()

    async def __aexit__(self, *_: object) -> None:
        self._admission.give_back()
