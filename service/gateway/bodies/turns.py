"""Threads that do blocking work for callers in turns."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class TooHeavyError(Exception):
    """The reserve thread has met heavy work; another thread starts it again."""


class Shift:
    """The thread that runs a job, as the job sees it."""

    __slots__ = ("_is_reserve", "_turns", "is_heavy")

    def __init__(self, turns: Turns, *, is_reserve: bool) -> None:
        self._turns = turns
        self._is_reserve = is_reserve
        self.is_heavy = False

    def declare_heavy(self) -> None:
        """Say that the job is heavy, before its work begins.

        Raises:
            TooHeavyError: on the reserve thread; the job must let it pass.
        """
        if self._is_reserve:
            raise TooHeavyError
        if not self.is_heavy:
            self.is_heavy = True
            self._turns.count_heavy(1)


Work = Callable[[Shift], T]


@dataclass(order=True, slots=True)
class _Job(Generic[T]):
    round: int
    number: int
    work: Work[T] = field(compare=False)
    result: asyncio.Future[T] = field(compare=False)


class Turns:
    """Runs jobs in threads, one job of each caller in every round, first come first served within a round.

    A job belongs to the round after its caller's last one, or to the current round if that is later. So a caller that
    has nothing in the queue waits for at most one job of each other caller.

    With a reserve, light jobs do not wait for heavy ones: one further thread runs light jobs while all others run
    heavy ones.

    Args:
        threads: jobs that run at once, without the reserve.
        name: prefix of the threads' names.
        has_reserve: add the reserve thread.
    """

    def __init__(self, threads: int, *, name: str, has_reserve: bool = False) -> None:
        self._name = name
        self._num_threads = threads
        self._has_reserve = has_reserve
        self._threads: list[Thread] = []
        lock = Lock()
        self._changed = Condition(lock)
        self._reserve_needed = Condition(lock)
        self._light: list[_Job[Any]] = []
        self._heavy: list[_Job[Any]] = []
        self._numbers = itertools.count()
        self._round = 0
        self._last_rounds: dict[str, int] = {}  # by caller; those before the current round are dropped
        self._num_heavy = 0
        self._closed = False

    def submit(self, work: Work[T], *, caller: str) -> asyncio.Future[T]:
        """Queue a job; it is dropped if the future is cancelled before the job starts.

        Args:
            work: runs in a thread; calls `Shift.declare_heavy` before heavy work.
            caller: whose turn it takes.

        Returns:
            A future of the running event loop.
        """
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._changed:
            number = max(self._round, self._last_rounds.get(caller, -1) + 1)
            self._last_rounds[caller] = number
            heapq.heappush(self._light, _Job(number, next(self._numbers), work, result))
            self._start_threads()
            self._changed.notify()
            if self._num_heavy >= self._num_threads:
                self._reserve_needed.notify()
        return result

    def close(self, *, wait: bool = False) -> None:
        """Let the threads end once no job waits.

        Args:
            wait: return only then.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._reserve_needed.notify_all()
        for thread in self._threads if wait else ():
            thread.join()

    def count_heavy(self, change: int) -> None:
        """Count threads that run heavy jobs."""
        with self._changed:
            self._num_heavy += change
            if self._num_heavy >= self._num_threads:
                self._reserve_needed.notify()

    def _start_threads(self) -> None:
        while len(self._threads) < self._num_threads + self._has_reserve:
            index = len(self._threads)
            target = self._run_reserve if index == self._num_threads else self._run_jobs
            self._threads.append(Thread(target=target, name=f"{self._name}_{index}", daemon=True))
            self._threads[-1].start()

    def _run_jobs(self) -> None:
        while (job := self._take()) is not None:
            shift = Shift(self, is_reserve=False)
            _do(job, shift)
            if shift.is_heavy:
                self.count_heavy(-1)
            del job, shift  # or the last job's data would stay in memory until the next one comes

    def _run_reserve(self) -> None:
        while (job := self._take_light()) is not None:
            if not _do(job, Shift(self, is_reserve=True)):
                with self._changed:
                    heapq.heappush(self._heavy, job)
                    self._changed.notify()
            del job

    def _take(self) -> _Job[Any] | None:
        with self._changed:
            while not (self._light or self._heavy):
                if self._closed:
                    return None
                self._changed.wait()
            if not self._heavy or (self._light and self._light[0] < self._heavy[0]):
                return self._pop(self._light)
            return self._pop(self._heavy)

    def _take_light(self) -> _Job[Any] | None:
        with self._changed:
            while not self._light or self._num_heavy < self._num_threads:
                if self._closed:
                    return None
                self._reserve_needed.wait()
            return self._pop(self._light)

    def _pop(self, jobs: list[_Job[Any]]) -> _Job[Any]:
        job = heapq.heappop(jobs)
        if job.round > self._round:
            self._round = job.round
            self._last_rounds = {caller: last for caller, last in self._last_rounds.items() if last >= job.round}
        return job


def _do(job: _Job[Any], shift: Shift) -> bool:
    """Run a job and deliver its result or error; return False if it is too heavy for this thread."""
    if job.result.cancelled():
        return True
    value, error = None, None
    try:
        value = job.work(shift)
    except TooHeavyError:
        return False
    except Exception as err:  # noqa: BLE001 - belongs to the caller; the thread lives on
        error = err
    with contextlib.suppress(RuntimeError):  # the loop has ended, and the caller with it
        job.result.get_loop().call_soon_threadsafe(_deliver, job.result, value, error)
    return True


def _deliver(result: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if result.done():
        return
    if error is not None:
        result.set_exception(error)
    else:
        result.set_result(value)
