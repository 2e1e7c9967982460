"""Who is worked for now, who waits, and who is sent away: so that a crowd slows nobody down beyond a bound.

A place is held while images are decoded and the model server works, not while a body is read or a reply is sent: slow
clients take no places.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from service.gateway.errors import OverloadedError
from service.gateway.metrics import Metrics


class Admission:
    """Places for requests at work and a bounded queue before them; first come, first served.

    Args:
        max_working: requests that are worked on at once; fewer than the model server lets wait.
        max_waiting: requests that wait for a place; more are refused at once.
        metrics: where waiting is timed and refusals are counted.
    """

    def __init__(self, *, max_working: int, max_waiting: int, metrics: Metrics) -> None:
        self._free = max_working
        self._max_waiting = max_waiting
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._metrics = metrics

    def check(self) -> None:
        """Refuse a request before its body is read if it would be refused afterwards.

        Raises:
            OverloadedError: if the queue is full.
        """
        if not self._free and len(self._waiting) >= self._max_waiting:
            self._metrics.count_shed("queue_full")
            raise OverloadedError(f"{self._max_waiting} requests wait already, the most; try again later")

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place while the block runs; wait for one if there is none.

        Raises:
            OverloadedError: if too many requests wait already.
        """
        with self._metrics.stage("queue"):
            await self._take()
        try:
            yield
        finally:
            self._give_back()

    async def _take(self) -> None:
        if self._free:  # then nobody waits: a place that is given back goes to whoever waits
            self._free -= 1
            return
        self.check()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()  # it was given a place in the moment it gave up
            else:
                self._waiting.remove(turn)
            raise

    def _give_back(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
