"""Runs the calls of several models on one machine's cores: the first at once, what comes meanwhile together.

Nothing waits for a batch to fill. A call that finds its model idle runs at once; what arrives while it runs is the next
batch, so batches grow with the load and shrink with it. Models take turns, and within a model its callers.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engine.engine import Arrays, Engine
from engine.errors import OverloadedError
from engine.signatures import check_input_names, check_inputs, find_signature, has_ranks, is_batched, resolve_outputs
from service.modelserver.serving.batching import Call, ShapeQueue, Slice, concatenate_inputs, split_outputs

logger = logging.getLogger(__name__)

_BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is run.

    Attributes:
        num_streams: batches at a time, each on an equal share of the cores.
        max_batch: rows of the largest batch.
    """

    num_streams: int = 1
    max_batch: int = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """What one thread runs next.

    Attributes:
        model: whose calls these are.
        engine: the one of its engines to run on.
        num_cores: how many that takes.
        signature: the name that all slices ask for.
        slices: rows of calls; none if all callers have left.
    """

    model: ModelQueue
    engine: Engine
    num_cores: int
    signature: str
    slices: Sequence[Slice]


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What one run was, for metrics.

    Attributes:
        signature: its name.
        waits_s: seconds that each of its calls waited.
        rows: how many rows it had.
        run_s: seconds it ran; after a failure, those of its calls' own runs too.
    """

    signature: str
    waits_s: Sequence[float]
    rows: int
    run_s: float


class Scheduler:
    """Shares a number of cores among models.

    Args:
        num_cores: how many there are.
        max_waiting: calls that may wait for one model; more are refused.
    """

    def __init__(self, num_cores: int, *, max_waiting: int = 256) -> None:
        self.num_cores = num_cores
        self.max_waiting = max_waiting
        self.lock = threading.RLock()  # of everything here; futures' callbacks run under it
        self.work = threading.Condition(self.lock)
        self.models: deque[ModelQueue] = deque()
        self.last_call_at = -math.inf  # `time.monotonic()`
        self._num_free = num_cores
        self._closed = False
        names = [f"run-{number}" for number in range(num_cores)]
        self._threads = [threading.Thread(target=self._run_batches, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a call came in the last seconds."""
        return time.monotonic() - self.last_call_at < _BUSY_S

    def close(self) -> None:
        """Let what runs finish and end the threads; what waits then waits for ever."""
        with self.work:
            self._closed = True
            self.work.notify_all()
        for thread in self._threads:
            thread.join()

    def _run_batches(self) -> None:
        while True:
            with self.work:
                while (batch := self._take()) is None:
                    if self._closed:
                        return
                    self.work.wait()
                self.work.notify()  # perhaps there is more; whoever finds nothing sleeps on
            try:
                batch.model.run(batch)
            except Exception:  # an observer's; the thread must go on
                logger.exception("a batch was answered, but not recorded")
            with self.lock:
                self._num_free += batch.num_cores

    def _take(self) -> Batch | None:
        """Return the batch whose turn it is; None if nothing waits, or if it needs more cores than are free."""
        for _ in range(len(self.models) if not self._closed else 0):
            model = self.models[0]
            while model.is_ready:
                if model.num_cores_wanted > self._num_free:
                    return None  # its turn stays its own, or smaller models would never let it run
                batch = model.take()
                if batch.slices:
                    self._num_free -= batch.num_cores
                    self.models.rotate(-1)
                    return batch
            self.models.rotate(-1)
        return None


class ModelQueue:
    """A loaded model that many may call.

    Args:
        scheduler: gives it cores.
        engine: the model; nobody else closes it.
        plan: how it is run.
        observe: is told of every batch, on the thread that ran it.
        lone_engine: the same model loaded to use all cores for one row, for a call of one that comes alone and asks for
            a signature that it holds; others get their stream's share of them.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        plan: Plan,
        observe: Callable[[BatchRecord], None] | None = None,
        *,
        lone_engine: Engine | None = None,
    ) -> None:
        self.engine = engine
        self.plan = plan
        self._lone_engine = lone_engine
        self._scheduler = scheduler
        self._observe = observe
        self._batched = {name for name, signature in engine.signatures.items() if is_batched(signature)}
        self._queues: OrderedDict[Hashable, ShapeQueue] = OrderedDict()
        self._num_running = 0
        self._drained = threading.Condition(scheduler.lock)
        with scheduler.lock:
            scheduler.models.append(self)

    def submit(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] = (),
        *,
        caller: Hashable = None,
        timeout_s: float | None = None,
    ) -> Future[Arrays]:
        """Queue a call; cancelling the future takes it out, or drops its answer.

        Args:
            signature: its name.
            inputs: every input by name; they must not change until the future is done.
            outputs: the outputs that are wanted; none means all.
            caller: who asks; callers take turns.
            timeout_s: seconds from now after which nobody waits for the answer; None means that somebody always does.

        Returns:
            Gets what `Engine.run` returns or raises, or a DeadlineError.

        Raises:
            SignatureError: if there is no such signature.
            InputError: if a name, dtype or shape does not fit it: what cannot run never meets the others.
            OverloadedError: if too many calls wait.
        """
        definition = find_signature(self.engine.signatures, signature)
        check_input_names(definition, inputs)
        wanted = resolve_outputs(definition, outputs)
        check_inputs(definition, inputs, any_rank=self.engine.any_rank)
        is_batched_call = signature in self._batched and has_ranks(definition, inputs)
        rows = len(next(iter(inputs.values()))) if is_batched_call else 0
        now = time.monotonic()
        deadline = None if timeout_s is None else now + timeout_s
        call = Call(inputs, wanted, max(1, rows), caller, deadline, now)
        shapes = tuple(inputs[name].shape[1:] for name in sorted(inputs))
        with self._scheduler.work:
            self._check_room()
            self._scheduler.last_call_at = now
            self._queue((signature, shapes, rows > 0), self.plan.max_batch if rows else 1).add(call)
            self._scheduler.work.notify()
        call.future.add_done_callback(lambda future: self._drop(call) if future.cancelled() else None)
        return call.future

    def close(self) -> None:
        """Finish the calls that are here, then close the engine; nobody may submit any more."""
        with self._drained:
            self._drained.wait_for(lambda: not self._queues and not self._num_running)
            self._scheduler.models.remove(self)
        for engine in (self.engine, self._lone_engine):
            if engine is not None:
                engine.close()

    @property
    def is_ready(self) -> bool:
        """Whether a call waits and one of the model's streams is free; the scheduler holds the lock."""
        return bool(self._queues) and self._num_running < self.plan.num_streams

    @property
    def num_cores_wanted(self) -> int:
        """Cores that the next batch takes; the scheduler holds the lock."""
        num_cores = self._scheduler.num_cores
        return num_cores if self._next_engine is self._lone_engine else num_cores // self.plan.num_streams or 1

    def take(self) -> Batch:
        """Return the next batch; the scheduler holds the lock."""
        engine, num_cores = self._next_engine, self.num_cores_wanted
        queue = self._next_queue
        slices = queue.take(time.monotonic(), self._room)
        self._num_running += bool(slices)
        self._queues.move_to_end(queue.key)
        self._forget_if_empty(queue)
        return Batch(self, engine, num_cores, queue.key[0], slices)

    def run(self, batch: Batch) -> None:
        """Run a batch and answer its calls, then be ready for the next."""
        started = time.monotonic()
        outcomes = _run_batch(batch.engine, batch.signature, batch.slices)
        run_s = time.monotonic() - started  # now: whoever is answered may take the interpreter first
        with self._scheduler.lock:
            for part, outcome in zip(batch.slices, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    part.call.fail(outcome)
                else:
                    part.call.answer(part, outcome)
            self._num_running -= 1
            self._drained.notify_all()
        if self._observe is not None:
            waits_s = [started - part.call.queued_at for part in batch.slices if part.start == 0]
            rows = sum(part.rows for part in batch.slices)
            self._observe(BatchRecord(batch.signature, waits_s, rows, run_s))

    @property
    def _next_engine(self) -> Engine:
        """The engine for lone rows if the next batch is a call of one row, nothing runs and nothing else waits."""
        lone = self._lone_engine
        if lone is None or not self._is_only_call:
            return self.engine
        queue = self._next_queue
        is_lone_row = queue.is_batched and queue.first.rows == 1
        return lone if is_lone_row and queue.key[0] in lone.signatures else self.engine

    @property
    def _is_only_call(self) -> bool:
        return not self._num_running and self._num_waiting == 1

    @property
    def _room(self) -> int:
        """Rows that the next batch may take; the streams share a call that comes alone."""
        share = self.plan.max_batch
        if self._is_only_call:
            share = min(share, math.ceil(self._next_queue.first.rows / self.plan.num_streams))
        return share

    @property
    def _next_queue(self) -> ShapeQueue:
        return next(iter(self._queues.values()))

    @property
    def _num_waiting(self) -> int:
        return sum(queue.num_calls for queue in self._queues.values())

    def _check_room(self) -> None:
        limit = self._scheduler.max_waiting
        if self._num_waiting >= limit:
            raise OverloadedError(f"the model server is overloaded: {limit} calls wait for the model, the most")

    def _queue(self, key: tuple[str, object, bool], max_batch: int) -> ShapeQueue:
        if key not in self._queues:
            self._queues[key] = ShapeQueue(key, max_batch)
        return self._queues[key]

    def _drop(self, call: Call) -> None:
        """Take out a call whose caller has left."""
        with self._scheduler.lock:
            for queue in tuple(self._queues.values()):
                queue.discard(call)
                self._forget_if_empty(queue)

    def _forget_if_empty(self, queue: ShapeQueue) -> None:
        if not queue.num_calls:
            self._queues.pop(queue.key, None)
            self._drained.notify_all()


def _run_batch(engine: Engine, signature: str, slices: Sequence[Slice]) -> list[Arrays | Exception]:
    """Return what each slice is answered; if they fail together each is run alone, so that one harms no other."""
    names = sorted({name for part in slices for name in part.call.outputs})
    try:
        return [*split_outputs(slices, engine.run(signature, concatenate_inputs(slices), names))]
    except Exception as err:  # noqa: BLE001 - whatever it is, the caller's future gets it
        if len(slices) == 1:
            return [err]
    return [outcome for part in slices for outcome in _run_batch(engine, signature, [part])]
