"""Runs the calls of several models on one machine's cores: the first at once, later arrivals as one batch.

Nothing waits for a batch to fill. A call that finds its model idle runs at once; calls that arrive while it runs are
the next batch, so batches grow with the load and shrink with it. Models take turns, and within a model its callers.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engine.engine import Arrays, CheckedCall, Engine
from engine.errors import OverloadedError
from engine.signatures import has_ranks, is_batched
from service.modelserver.serving.backlog import Backlog, Batch
from service.modelserver.serving.batch_queue import Call, Slice, concatenate_inputs, split_outputs

logger = logging.getLogger(__name__)

_BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Streams and batch size of a model.

    Attributes:
        num_streams: batches at a time, each on an equal share of the cores.
        max_batch: rows of the largest batch.
        lone_threads: for one row that comes alone; 0: all cores.
    """

    num_streams: int = 1
    max_batch: int = 8
    lone_threads: int = 0


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """The figures of one run, for metrics.

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


Observer = Callable[[BatchRecord], None]


class Scheduler:
    """Shares a number of cores among models.

    Args:
        num_cores: how many there are.
        max_waiting: calls that may wait for one model; more are refused.
    """

    def __init__(self, num_cores: int, *, max_waiting: int = 256) -> None:
        self.num_cores = num_cores
        self._max_waiting = max_waiting
        self._lock = threading.RLock()  # of everything here and in the backlogs; futures' callbacks run under it
        self._work = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)
        self._models: deque[tuple[Backlog, Observer | None]] = deque()
        self._last_call_at = -math.inf  # `time.monotonic()`
        self._num_free = num_cores
        self._closed = False
        names = [f"run-{number}" for number in range(num_cores)]
        self._threads = [threading.Thread(target=self._run_batches, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    @property
    def is_busy(self) -> bool:
        """True if a call came in the last seconds."""
        return time.monotonic() - self._last_call_at < _BUSY_S

    def add(self, backlog: Backlog, observe: Observer | None = None) -> None:
        """Run a model's calls from now on.

        Args:
            backlog: of the model.
            observe: is told of every batch, on the thread that ran it.
        """
        with self._lock:
            self._models.append((backlog, observe))

    def remove(self, backlog: Backlog) -> None:
        """Wait until a model's calls are answered, then leave it out."""
        with self._drained:
            self._drained.wait_for(lambda: backlog.is_idle)
            self._models = deque(entry for entry in self._models if entry[0] is not backlog)

    def submit(self, backlog: Backlog, key: tuple[str, object, bool], call: Call) -> None:
        """Queue a call; cancelling its future takes it out.

        Args:
            backlog: of the model.
            key: signature, shapes of a row, and whether the call has rows.
            call: is answered by its future.

        Raises:
            OverloadedError: if too many calls wait.
        """
        with self._work:
            if backlog.num_waiting >= self._max_waiting:
                raise OverloadedError(
                    f"the model server is overloaded: {self._max_waiting} calls wait for the model, the limit"
                )
            self._last_call_at = call.queued_at
            backlog.add(key, call)
            self._work.notify()
        call.future.add_done_callback(lambda future: self._discard(backlog, call) if future.cancelled() else None)

    def close(self) -> None:
        """Let what runs finish and end the threads; what waits then waits for ever."""
        with self._work:
            self._closed = True
            self._work.notify_all()
        for thread in self._threads:
            thread.join()

    def _discard(self, backlog: Backlog, call: Call) -> None:
        with self._lock:
            backlog.discard(call)
            self._drained.notify_all()

    def _run_batches(self) -> None:
        while True:
            with self._work:
                while (taken := self._take()) is None:
                    if self._closed:
                        return
                    self._work.wait()
                self._work.notify()  # a second thread may take the next batch
            batch, observe = taken
            self._run(batch, observe)
            with self._lock:
                self._num_free += batch.num_cores

    def _take(self) -> tuple[Batch, Observer | None] | None:
        """Return the batch whose turn it is; None if nothing waits, or if it needs more cores than are free."""
        for _ in range(len(self._models) if not self._closed else 0):
            backlog, observe = self._models[0]
            while backlog.is_ready:
                if backlog.num_cores_wanted > self._num_free:
                    return None  # its turn stays its own, or smaller models would never let it run
                batch = backlog.take(time.monotonic())
                if batch.slices:
                    self._num_free -= batch.num_cores
                    self._models.rotate(-1)
                    return batch, observe
            if backlog.is_idle:
                self._drained.notify_all()
            self._models.rotate(-1)
        return None

    def _run(self, batch: Batch, observe: Observer | None) -> None:
        """Run a batch, record it and answer its calls; its model is then ready for the next."""
        started = time.monotonic()
        outcomes = _run_slices(batch.engine, batch.signature, batch.slices)
        if observe is not None:  # first, so that what is answered is counted, and no model is gone when it is
            _observe(observe, batch, started=started, run_s=time.monotonic() - started)
        with self._lock:
            for part, outcome in zip(batch.slices, outcomes, strict=True):
                _answer(part, outcome)
            batch.backlog.finish()
            self._drained.notify_all()


class ModelQueue:
    """A loaded model that many may call.

    Args:
        scheduler: runs its calls.
        engine: the model; closed by `close`.
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
        observe: Observer | None = None,
        *,
        lone_engine: Engine | None = None,
    ) -> None:
        self.engine = engine
        self.plan = plan
        self._lone_engine = lone_engine
        self._scheduler = scheduler
        self._batched = {name for name, signature in engine.signatures.items() if is_batched(signature)}
        self._backlog = Backlog(
            engine,
            num_cores=scheduler.num_cores,
            num_streams=plan.num_streams,
            max_batch=plan.max_batch,
            lone_engine=lone_engine,
        )
        scheduler.add(self._backlog, observe)

    def submit(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] = (),
        *,
        caller: Hashable = None,
        timeout_s: float | None = None,
    ) -> Future[Arrays]:
        """Check a call and queue it, as `submit_checked`.

        Args:
            signature: its name.
            inputs: every input by name; they must not change until the future is done.
            outputs: the outputs that are wanted; none means all.
            caller: who asks; callers take turns.
            timeout_s: seconds from now after which the call is dropped if it has not run; None for no limit.

        Raises:
            SignatureError: if there is no such signature.
            InputError: if a name, dtype or shape does not fit it: what cannot run never meets the others.
            OverloadedError: if too many calls wait.
        """
        return self.submit_checked(self.engine.check(signature, inputs, outputs), caller=caller, timeout_s=timeout_s)

    def submit_checked(
        self, checked: CheckedCall, *, caller: Hashable = None, timeout_s: float | None = None
    ) -> Future[Arrays]:
        """Queue a call; cancelling the future takes it out, or drops its answer.

        Args:
            checked: fits this model's engine.
            caller: who asks; callers take turns.
            timeout_s: seconds from now after which the call is dropped if it has not run; None for no limit.

        Returns:
            Gets what `Engine.run` returns or raises, or a DeadlineError.

        Raises:
            OverloadedError: if too many calls wait.
        """
        signature, inputs = checked.signature, checked.inputs
        can_batch = signature in self._batched and has_ranks(self.engine.signatures[signature], inputs)
        rows = len(next(iter(inputs.values()))) if can_batch else 0
        now = time.monotonic()
        deadline = None if timeout_s is None else now + timeout_s
        call = Call(inputs, checked.outputs, max(1, rows), caller, deadline, now)
        shapes = tuple(inputs[name].shape[1:] for name in sorted(inputs))
        self._scheduler.submit(self._backlog, (signature, shapes, rows > 0), call)
        return call.future

    def close(self) -> None:
        """Finish the calls that are here, then close the engine; nothing may be submitted any more."""
        self._scheduler.remove(self._backlog)
        for engine in (self.engine, self._lone_engine):
            if engine is not None:
                engine.close()


def _observe(observe: Observer, batch: Batch, *, started: float, run_s: float) -> None:
    waits_s = [started - part.call.queued_at for part in batch.slices if part.start == 0]
    try:
        observe(BatchRecord(batch.signature, waits_s, sum(part.rows for part in batch.slices), run_s))
    except Exception:  # the calls are answered all the same
        logger.exception("a batch was not recorded")


def _answer(part: Slice, outcome: Arrays | Exception) -> None:
    if not isinstance(outcome, Exception):
        try:
            part.call.answer(part, outcome)
            return
        except Exception as err:  # noqa: BLE001 - out of memory, or outputs of other shapes in a call's other batch
            outcome = err
    part.call.fail(outcome)


def _run_slices(engine: Engine, signature: str, slices: Sequence[Slice]) -> list[Arrays | Exception]:
    """Return the result of each slice; if they fail together each is run alone, so that one harms no other."""
    names = sorted({name for part in slices for name in part.call.outputs})
    try:
        return [*split_outputs(slices, engine.execute(signature, concatenate_inputs(slices), names))]
    except Exception as err:  # noqa: BLE001 - whatever it is, the caller's future gets it
        if len(slices) == 1:
            return [err]
    return [outcome for part in slices for outcome in _run_slices(engine, signature, [part])]
