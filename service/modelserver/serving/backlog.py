"""One model's calls: those that wait, in a queue per shape, and the number of batches that run.

Nothing here is locked: the scheduler calls every method under its own lock.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from engine.engine import Engine
from service.modelserver.serving.batch_queue import BatchQueue, Call, Slice


@dataclass(frozen=True, slots=True)
class Batch:
    """The calls that one thread runs next.

    Attributes:
        backlog: whose calls these are.
        engine: the one of its engines to run on.
        num_cores: how many that takes.
        signature: the name that all slices ask for.
        slices: rows of calls; none if all callers have left.
    """

    backlog: Backlog
    engine: Engine
    num_cores: int
    signature: str
    slices: Sequence[Slice]


class Backlog:
    """The calls of a loaded model.

    Args:
        engine: the model.
        num_cores: of the machine.
        num_streams: batches at a time, each on an equal share of the cores.
        max_batch: rows of the largest batch.
        lone_engine: the same model loaded to use all cores for one row of the signatures that it holds; None if it is
            loaded once.
    """

    def __init__(
        self, engine: Engine, *, num_cores: int, num_streams: int, max_batch: int, lone_engine: Engine | None = None
    ) -> None:
        self._engine = engine
        self._lone_engine = lone_engine
        self._num_cores = num_cores
        self._num_streams = num_streams
        self._max_batch = max_batch
        self._queues: OrderedDict[Hashable, BatchQueue] = OrderedDict()
        self._num_running = 0

    @property
    def num_waiting(self) -> int:
        """Calls that wait, in whole or in part."""
        return sum(queue.num_calls for queue in self._queues.values())

    @property
    def is_idle(self) -> bool:
        """True if nothing waits and nothing runs."""
        return not self._queues and not self._num_running

    @property
    def is_ready(self) -> bool:
        """True if a call waits and one of the model's streams is free."""
        return bool(self._queues) and self._num_running < self._num_streams

    @property
    def num_cores_wanted(self) -> int:
        """Cores that the next batch takes."""
        return self._cores_of(self._next_engine)

    def add(self, key: tuple[str, object, bool], call: Call) -> None:
        """Put a call behind those that have its key: signature, shapes of a row, and whether it has rows."""
        if key not in self._queues:
            self._queues[key] = BatchQueue(key, self._max_batch if key[2] else 1)
        self._queues[key].add(call)

    def discard(self, call: Call) -> None:
        """Take a call out, if it still waits."""
        for queue in tuple(self._queues.values()):
            queue.discard(call)
            self._drop_if_empty(queue)

    def take(self, now: float) -> Batch:
        """Return the next batch; one with slices runs until `finish`."""
        engine, queue = self._next_engine, self._next_queue
        slices = queue.take(now, self._room)
        self._num_running += bool(slices)
        self._queues.move_to_end(queue.key)
        self._drop_if_empty(queue)
        return Batch(self, engine, self._cores_of(engine), queue.key[0], slices)

    def finish(self) -> None:
        """Count a batch that has run."""
        self._num_running -= 1

    def _cores_of(self, engine: Engine) -> int:
        return self._num_cores if engine is self._lone_engine else self._num_cores // self._num_streams or 1

    @property
    def _next_engine(self) -> Engine:
        """The engine for lone rows if the next batch is a call of one row, nothing runs and nothing else waits."""
        lone = self._lone_engine
        if lone is None or not self._is_only_call:
            return self._engine
        queue = self._next_queue
        is_lone_row = queue.is_batched and queue.first.rows == 1
        return lone if is_lone_row and queue.key[0] in lone.signatures else self._engine

    @property
    def _is_only_call(self) -> bool:
        return not self._num_running and self.num_waiting == 1

    @property
    def _room(self) -> int:
        """Rows that the next batch may take; the streams share a call that comes alone."""
        share = self._max_batch
        if self._is_only_call:
            share = min(share, math.ceil(self._next_queue.first.rows / self._num_streams))
        return share

    @property
    def _next_queue(self) -> BatchQueue:
        return next(iter(self._queues.values()))

    def _drop_if_empty(self, queue: BatchQueue) -> None:
        if not queue.num_calls:
            self._queues.pop(queue.key, None)
