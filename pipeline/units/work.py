"""Units of work: a function from the images of a unit to its part, tried three times, and the shards of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

TRIES = 3


@dataclass(frozen=True, slots=True)
class Shard:
    """The share of one of several processes: each `count`-th unit, from `index` on.

    Attributes:
        index: 0 to count - 1.
        count: number of shards.
    """

    index: int = 0
    count: int = 1

    def units(self, num_units: int) -> range:
        """Return the numbers of its units."""
        return range(self.index, num_units, self.count)


class Task(Protocol):
    """Makes the part of a unit; can be pickled. To make a part again gives the same bytes and does no harm."""

    def __call__(self, unit: int, paths: Sequence[str]) -> int:
        """Write the part of a unit; return the number of images."""

    def load(self) -> None:
        """Load what all units need, ahead of the first one."""

    def for_worker(self, num_threads: int) -> Self:
        """Return the task for another process, with a number of threads."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a unit's work.

    Attributes:
        unit: its number.
        images: number of images of its part.
        error: why it has no part, after all tries; None if it has.
    """

    unit: int
    images: int
    error: str | None = None


Units = Iterable[tuple[int, Sequence[str]]]
Executor = Callable[[Task, Units], Iterator[Outcome]]


def run_here(task: Task, units: Units) -> Iterator[Outcome]:
    """Work on units in this process, one after the other, on all cores."""
    for unit, paths in units:
        yield try_unit(task, unit, paths)


def try_unit(task: Task, unit: int, paths: Sequence[str], tries: int = TRIES) -> Outcome:
    """Work on a unit; a failure is tried again, three times in all."""
    reason = ""
    for _ in range(tries):
        try:
            return Outcome(unit, task(unit, paths))
        except Exception as err:  # noqa: BLE001 - whatever it is, other units go on, and the last error is told
            reason = f"{type(err).__name__}: {err}"
    return Outcome(unit, 0, reason)
