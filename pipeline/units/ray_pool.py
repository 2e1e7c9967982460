"""Works on units by the actors of a Ray cluster; a unit whose worker dies is given to another one."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from contract.cores import count_cores
from pipeline.errors import WorkerError
from pipeline.progress import note
from pipeline.units.ray_cluster import AUTH_MODE, TOKEN, Cluster, no_token_of_cluster, open_cluster
from pipeline.units.work import TRIES, Outcome, Task, Units, try_unit

_IN_FLIGHT = 2  # units of a worker: one is worked on while the next one waits there
_QUIET_S = 30.0  # without any worker, until the wait is told
_STARTS = 3


class Worker:
    """The actor: holds a task, and works on one unit at a time with one thread."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def load(self) -> tuple[str | None, bool]:
        """Load what the task needs; return the error or None, and whether this node requires tokens."""
        has_tokens = os.environ.get(AUTH_MODE) == TOKEN
        try:
            self._task.load()
        except Exception as err:  # noqa: BLE001 - errors of libraries may not survive pickling
            return f"{type(err).__name__}: {err}", has_tokens
        return None, has_tokens

    def work(self, unit: int, paths: Sequence[str]) -> Outcome:
        """Try a unit once."""
        return try_unit(self._task, unit, paths, tries=1)


@dataclass(frozen=True)
class RayExecutor:
    """Works on units by a Ray cluster; `run_here` elsewhere.

    Attributes:
        address: HOST:PORT of the head; None starts a cluster on loopback.
        workers: number of actors, a CPU each; None is one for each CPU of the cluster.
    """

    address: str | None = None
    workers: int | None = None

    def __call__(self, task: Task, units: Units) -> Iterator[Outcome]:
        """Yield the outcome of each unit, in the order of their ends.

        Raises:
            PipelineError: if the cluster cannot be used.
            WorkerError: if no worker can load the task.
        """
        todo = deque(_Attempt(unit, paths) for unit, paths in units)
        if not todo:
            return
        with open_cluster(self.address, self.workers or count_cores()) as cluster:
            num_workers = min(self.workers or cluster.num_cpus, len(todo))
            yield from _Pool(cluster, task.for_worker(num_threads=1), num_workers, todo).run()


@dataclass
class _Attempt:
    unit: int
    paths: Sequence[str]
    failures: int = 0


class _Pool:
    """Gives units to workers that have loaded their task, two at a time.

    Attributes:
        _ready: workers that take units.
        _loading: workers that start, or start again, by the reference of their `load`.
        _working: workers and their units by reference, those of one worker in its order.
    """

    def __init__(self, cluster: Cluster, task: Task, num_workers: int, todo: deque[_Attempt]) -> None:
        self._cluster, self._ray, self._todo = cluster, cluster.ray, todo
        self._ready: list[Any] = []
        self._loading: dict[Any, Any] = {}
        self._working: dict[Any, tuple[Any, _Attempt]] = {}
        actor = self._ray.remote(num_cpus=1, max_restarts=-1, scheduling_strategy="SPREAD")(Worker)
        for _ in range(num_workers):
            self._load(actor.remote(task))

    def run(self) -> Iterator[Outcome]:
        """Yield the outcome of each unit.

        Raises:
            WorkerError: if no worker can load the task.
        """
        while self._todo or self._working:
            done, _ = self._ray.wait([*self._working, *self._loading], timeout=_QUIET_S)
            if not done and not self._working:
                note(f"waiting for workers: none of the cluster's {self._cluster.num_cpus} CPUs is free")
            for reference in done:
                if reference in self._loading:
                    self._end_load(reference)
                elif reference in self._working:
                    yield from self._end_unit(reference)
            self._give()

    def _load(self, worker: Any) -> None:
        # Calls with retries wait for a worker that starts again; those without fail at once.
        self._loading[worker.load.options(max_task_retries=_STARTS).remote()] = worker

    def _end_load(self, reference: Any) -> None:
        worker = self._loading.pop(reference)
        try:
            error, has_tokens = self._ray.get(reference)
        except self._ray.exceptions.RayError as err:
            error, has_tokens = _first_line(err), True
        if not has_tokens and not self._cluster.is_loopback:
            raise no_token_of_cluster()
        if error is None:
            self._ready.append(worker)
            return
        if not self._ready and not self._loading:
            raise WorkerError(f"no worker could load the task: {error}")
        note(f"a worker could not load the task and is left out: {error}")

    def _give(self) -> None:
        """Give one unit to each ready worker, then a second one to wait there."""
        held = Counter(worker for worker, _ in self._working.values())
        for most in range(1, _IN_FLIGHT + 1):
            for worker in self._ready:
                if self._todo and held[worker] < most:
                    attempt = self._todo.popleft()
                    self._working[worker.work.remote(attempt.unit, attempt.paths)] = (worker, attempt)
                    held[worker] += 1

    def _end_unit(self, reference: Any) -> Iterator[Outcome]:
        worker, attempt = self._working[reference]
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as err:
            yield from self._lose(worker, _first_line(err))
            return
        del self._working[reference]
        yield from self._judge(attempt, outcome)

    def _lose(self, worker: Any, reason: str) -> Iterator[Outcome]:
        """Take back the units of a worker that died; only the one that it worked on has failed."""
        self._ready.remove(worker)
        held = [(reference, attempt) for reference, (holder, attempt) in self._working.items() if holder is worker]
        is_first = True
        for reference, attempt in held:
            del self._working[reference]
            try:
                yield from self._judge(attempt, self._ray.get(reference, timeout=0))
            except self._ray.exceptions.RayError:
                if is_first:
                    yield from self._judge(attempt, Outcome(attempt.unit, 0, f"its worker died: {reason}"))
                else:
                    self._todo.appendleft(attempt)
                is_first = False
        self._load(worker)

    def _judge(self, attempt: _Attempt, outcome: Outcome) -> Iterator[Outcome]:
        """Yield an outcome that stands; a unit that may be tried again goes back to those to do."""
        if outcome.error is None:
            yield outcome
            return
        attempt.failures += 1
        if attempt.failures < TRIES:
            note(f"unit {attempt.unit} is tried again: {outcome.error}")
            self._todo.append(attempt)
        else:
            yield outcome


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0]
