"""Calls that wait for one signature of a model, batched along axis 0 and split again.

Only calls of the same signature and the same shape beyond the first axis share a batch, and only where the signature
says that every input and output has the batch axis first. A call larger than a batch is run in several. Nothing here
is locked: `scheduling.py` calls every method under its own lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.engine import Arrays
from engine.errors import DeadlineError, RunError


@dataclass(eq=False, slots=True)
class Call:
    """A request of one caller to one signature.

    Attributes:
        inputs: by name, checked against the signature.
        outputs: the names that are wanted.
        rows: size of the inputs' first axis; 1 for a call that cannot be batched, which is then run whole.
        caller: who asks; callers take turns.
        deadline: `time.monotonic()` after which the call is dropped if it has not run; None for no limit.
        queued_at: `time.monotonic()` when the call came.
        future: gets the outputs or an EngineError; not marked as running, so that its caller can leave at any time.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]
    rows: int
    caller: Hashable
    deadline: float | None
    queued_at: float
    future: Future[Arrays] = field(default_factory=Future)
    _num_taken: int = 0
    _num_answered: int = 0
    _results: dict[int, Arrays] = field(default_factory=dict)

    def is_wanted(self, now: float) -> bool:
        """Return whether the caller still waits; a call whose deadline has passed ends here."""
        if self.deadline is not None and now > self.deadline:
            self.fail(DeadlineError("the deadline passed while the call waited to run"))
        return not self.future.done()

    @property
    def is_taken(self) -> bool:
        """True if batches have all of its rows."""
        return self._num_taken == self.rows

    def take(self, room: int) -> Slice:
        """Return the next rows, at most `room`, for a batch."""
        start, self._num_taken = self._num_taken, min(self.rows, self._num_taken + room)
        return Slice(self, start, self._num_taken)

    def answer(self, part: Slice, outputs: Arrays) -> None:
        """Take the outputs of some rows; with the last of them the caller gets everything."""
        self._results[part.start] = outputs
        self._num_answered += part.rows
        if self._num_answered < self.rows or self.future.done():
            return
        results = [self._results[start] for start in sorted(self._results)]
        outputs = {name: _concatenate([result[name] for result in results]) for name in self.outputs}
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(outputs)

    def fail(self, error: Exception) -> None:
        """Tell the caller what went wrong, unless it knows already or has left."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of a call, from `start` up to `stop`, that run in one batch."""

    call: Call
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.stop - self.start

    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """Return these rows of every input."""
        if self.rows == self.call.rows:
            return self.call.inputs
        return {name: array[self.start : self.stop] for name, array in self.call.inputs.items()}


class BatchQueue:
    """Calls of one signature and shape, which can share a batch; their callers take turns.

    Args:
        key: common to all: the signature's name, the shapes of a row, and whether there are rows.
        max_batch: rows of the largest batch.

    Attributes:
        is_batched: whether its calls have rows at all.
        num_calls: how many wait.
    """

    def __init__(self, key: tuple[str, object, bool], max_batch: int) -> None:
        self.key = key
        self.is_batched = key[2]
        self.num_calls = 0
        self._max_batch = max_batch
        self._callers: OrderedDict[Hashable, deque[Call]] = OrderedDict()

    def add(self, call: Call) -> None:
        """Put a call at the end of its caller's queue."""
        self._callers.setdefault(call.caller, deque()).append(call)
        self.num_calls += 1

    def discard(self, call: Call) -> None:
        """Take a call out, if it is still here."""
        calls = self._callers.get(call.caller, ())
        if call in calls:
            self._remove(call)

    @property
    def first(self) -> Call:
        """The call whose turn it is."""
        return next(iter(self._callers.values()))[0]

    def take(self, now: float, room: int) -> list[Slice]:
        """Return the next batch of at most `room` rows, from each caller in its turn; none if all have left."""
        slices: list[Slice] = []
        room = min(room, self._max_batch)
        while room and self._callers:
            caller, calls = next(iter(self._callers.items()))
            call = calls[0]
            if call.is_wanted(now):
                slices.append(call.take(room))
                room -= slices[-1].rows
                self._callers.move_to_end(caller)
            if call.is_taken or call.future.done():
                self._remove(call)
        return slices

    def _remove(self, call: Call) -> None:
        self._callers[call.caller].remove(call)
        self.num_calls -= 1
        if not self._callers[call.caller]:
            del self._callers[call.caller]


def concatenate_inputs(slices: Sequence[Slice]) -> Mapping[str, NDArray[Any]]:
    """Return the inputs of a batch."""
    if len(slices) == 1:
        return slices[0].inputs()
    inputs = [part.inputs() for part in slices]
    return {name: np.concatenate([arrays[name] for arrays in inputs]) for name in inputs[0]}


def split_outputs(slices: Sequence[Slice], outputs: Arrays) -> list[Arrays]:
    """Return each slice's rows of a batch's outputs.

    Raises:
        RunError: if an output does not have a row for each of the batch's.
    """
    if len(slices) == 1 and slices[0].rows == slices[0].call.rows:
        return [outputs]
    rows = sum(part.rows for part in slices)
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise RunError(f"output {name}: expected {rows} rows. Received: shape {list(array.shape)}")
    results, start = [], 0
    for part in slices:
        results.append({name: array[start : start + part.rows] for name, array in outputs.items()})
        start += part.rows
    return results


def _concatenate(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
