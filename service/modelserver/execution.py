"""The threads that models run on: a bounded number at work, a bounded number waiting, none on the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from service.modelserver.errors import OverloadedError, RequestError

Result = TypeVar("Result")


class Workers:
    """Runs calls on threads, in the order they came.

    Args:
        num_workers: calls at work at a time.
        max_waiting: calls that may wait beyond those; more are refused.
    """

    def __init__(self, num_workers: int, *, max_waiting: int) -> None:
        self._limit = num_workers + max_waiting
        self._outstanding: set[Future[object]] = set()
        self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="run")

    def submit(self, call: Callable[[], Result], *, timeout_s: float | None) -> Future[Result]:
        """Queue a call; cancelling the future drops it if it has not started.

        Args:
            call: runs on a worker.
            timeout_s: seconds from now after which nobody waits for the answer; a call that has not started by then
                is dropped. None means that somebody always does.

        Raises:
            OverloadedError: if too many calls wait.
        """
        if len(self._outstanding) >= self._limit:
            raise OverloadedError(f"the model server is overloaded: {self._limit} calls run or wait already, the most")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        future = self._pool.submit(_run_in_time, call, deadline)
        self._outstanding.add(future)  # type: ignore[arg-type]
        future.add_done_callback(self._outstanding.discard)
        return future

    def close(self) -> None:
        """Drop what waits and let what runs finish."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _run_in_time(call: Callable[[], Result], deadline: float | None) -> Result:
    if deadline is not None and time.monotonic() > deadline:
        raise RequestError("DEADLINE_EXCEEDED", "the deadline passed while the call waited to run")
    return call()
