"""Makes the parts of a plan that are not there, by any executor, and says what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import pyarrow as pa

from pipeline.errors import DatasetError
from pipeline.progress import progress_bar
from pipeline.units.parts import check_here, is_done, write_part
from pipeline.units.plan import Listed, Plan
from pipeline.units.work import Executor, Outcome, Shard

_SHOWN = 20  # failed units named in an error


class UnitFunction(Protocol):
    """Gives the rows of a part from its images alone; can be pickled."""

    def __call__(self, paths: Sequence[str]) -> pa.Table:
        """Return a row for each image, in order; one that cannot be read has a row too."""

    def load(self) -> None:
        """Load what all units need, ahead of the first one."""

    def for_worker(self, num_threads: int) -> Self:
        """Return the function for another process, with a number of threads."""


@dataclass(frozen=True)
class PartTask:
    """Writes the part of a unit; a task of executors.

    Attributes:
        function: gives the rows.
        out: of the parts.
        plan: what they depend on.
    """

    function: UnitFunction
    out: Path
    plan: Plan

    def __call__(self, unit: int, paths: Sequence[str]) -> int:
        """Write the part of a unit; return the number of images.

        Raises:
            OSError: if the part cannot be written.
        """
        rows = self.function(paths)
        write_part(self.out, self.plan, unit, rows)
        return int(rows.num_rows)

    def load(self) -> None:
        """Load what the function needs, and refuse a machine that does not see the folder of parts.

        Raises:
            LostImageError: if it is not there.
        """
        check_here(self.out)
        self.function.load()

    def for_worker(self, num_threads: int) -> PartTask:
        """Return the task for another process."""
        return replace(self, function=self.function.for_worker(num_threads), out=self.out.absolute())


@dataclass(frozen=True, slots=True)
class Made:
    """The result of one call.

    Attributes:
        plan: of all parts.
        done: units that this call worked on.
        kept: units of its shard whose parts were there.
        missing: units of other shards without a part yet.
    """

    plan: Plan
    done: int
    kept: int
    missing: int

    def describe(self, verb: str) -> str:
        """Return the counts in a line, such as "5 scored, 0 were there, 0 of 5 left to other shards"."""
        return (
            f"{self.done} {verb}, {self.kept} were there, {self.missing} of {self.plan.num_units} left to other shards"
        )


def make_parts(task: PartTask, listing: Sequence[Listed], shard: Shard, run: Executor, *, what: str) -> Made:
    """Make the parts of a shard that are not there.

    Args:
        task: makes a part.
        listing: all images of the plan.
        shard: the units to work on.
        run: works on units.
        what: shown before the progress, such as "Scoring".

    Raises:
        DatasetError: if units failed; the other parts are there.
    """
    plan, units = task.plan, shard.units(task.plan.num_units)
    todo = [unit for unit in units if not is_done(task.out, plan, unit)]
    work = ((unit, [image.path for image in plan.rows_of(unit, listing)]) for unit in todo)
    failed = [outcome for outcome in _show(run(task, work), plan, units, todo, what) if outcome.error is not None]
    if failed:
        raise _failure(failed, len(todo))
    others = [unit for unit in range(plan.num_units) if unit not in units]
    missing = sum(not is_done(task.out, plan, unit) for unit in others)
    return Made(plan, len(todo), len(units) - len(todo), missing)


def _show(outcomes: Iterator[Outcome], plan: Plan, units: range, todo: Sequence[int], what: str) -> Iterator[Outcome]:
    """Yield outcomes, and show the progress in images with rate and time left."""
    count, left = (sum(map(plan.size_of, numbers)) for numbers in (units, todo))
    with progress_bar(total=count, done=count - left, what=what, unit="image") as bar:
        for outcome in outcomes:
            bar.update(outcome.images)
            yield outcome


def _failure(failed: Sequence[Outcome], num_units: int) -> DatasetError:
    lines = [f"  unit {outcome.unit}: {outcome.error}" for outcome in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        lines.append(f"  and {len(failed) - _SHOWN} more")
    kinds = Counter(str(outcome.error).partition(":")[0] for outcome in failed)
    return DatasetError(
        f"{len(failed)} of {num_units} units failed three times ({', '.join(sorted(kinds))}), named above; the other "
        "parts are kept. The same command tries them again",
        lines,
    )
