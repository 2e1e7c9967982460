"""Scores units: a pure function from the images of a unit to its part, run here, by shards, or by workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.data.map_batches import map_batches
from pipeline.data.names import unescape_name
from pipeline.errors import LostImageError
from pipeline.evaluation.scorer import Scorer, decode_files
from pipeline.scoring.parts import write_part
from pipeline.scoring.plan import Plan
from pipeline.scoring.score_folder import Row, score_batch

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

    def units(self, plan: Plan) -> range:
        """Return the numbers of its units."""
        return range(self.index, plan.num_units, self.count)


@dataclass(frozen=True)
class UnitScorer:
    """Scores the images of a unit and writes its part; it can be pickled, and then loads the model where it runs.

    Attributes:
        scorer: of the version, at the plan's precision.
        folder: of the images.
        out: of the parts.
        plan: what the part depends on.
    """

    scorer: Scorer
    folder: Path
    out: Path
    plan: Plan

    def __call__(self, unit: int, paths: Sequence[str]) -> int:
        """Write the part of a unit; return the number of images.

        Raises:
            LostImageError: if the folder of the images is gone, in place of a part that is nothing but errors.
            EngineError: if the model cannot be loaded or run.
            OSError: if the part cannot be written.
        """
        rows = list(self._score(paths))
        if all(row.probabilities is None for row in rows) and not self.folder.is_dir():
            raise LostImageError(f"{self.folder}: the folder of the images cannot be read any more")
        write_part(self.out, self.plan, unit, rows, self.scorer.contract.labels)
        return len(rows)

    def _score(self, paths: Sequence[str]) -> Iterator[Row]:
        files = decode_files(self._read, paths, self.scorer.contract.input)
        for rows in map_batches(partial(score_batch, self.scorer), files):
            yield from rows

    def _read(self, path: str) -> bytes:
        return (self.folder / unescape_name(path)).read_bytes()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a unit's work.

    Attributes:
        unit: its number.
        images: number of images that were scored.
        error: why it has no part, after all tries; None if it has.
    """

    unit: int
    images: int
    error: str | None = None


Units = Iterable[tuple[int, Sequence[str]]]
Executor = Callable[[UnitScorer, Units], Iterator[Outcome]]


def run_here(score: UnitScorer, units: Units) -> Iterator[Outcome]:
    """Score units in this process, one after the other; images of a unit are decoded on all cores."""
    for unit, paths in units:
        yield try_unit(score, unit, paths)


def try_unit(score: UnitScorer, unit: int, paths: Sequence[str]) -> Outcome:
    """Score a unit; a failure is tried again, three times in all."""
    reason = ""
    for _ in range(TRIES):
        try:
            return Outcome(unit, score(unit, paths))
        except Exception as err:  # noqa: BLE001 - whatever it is, other units go on, and the last error is told
            reason = f"{type(err).__name__}: {err}"
    return Outcome(unit, 0, reason)
