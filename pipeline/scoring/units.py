"""Scores a unit: a pure function from its images to its part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.data.map_batches import map_batches
from pipeline.evaluation.scorer import Scorer, decode_files
from pipeline.scoring.parts import write_part
from pipeline.scoring.plan import Plan
from pipeline.scoring.score_folder import Row, score_batch
from pipeline.scoring.sources import Images, check_here


@dataclass(frozen=True)
class UnitScorer:
    """Scores the images of a unit and writes its part; it can be pickled, and then loads the model where it runs.

    Attributes:
        scorer: of the version, at the plan's precision.
        images: reads them.
        out: of the parts.
        plan: what the part depends on.
    """

    scorer: Scorer
    images: Images
    out: Path
    plan: Plan

    def __call__(self, unit: int, paths: Sequence[str]) -> int:
        """Write the part of a unit; return the number of images.

        Raises:
            LostImageError: if images cannot be read any more, in place of a part that is nothing but errors.
            EngineError: if the model cannot be loaded or run.
            OSError: if the part cannot be written.
        """
        rows = list(self._score(paths))
        if all(row.probabilities is None for row in rows):
            self.images.check()
        write_part(self.out, self.plan, unit, rows, self.scorer.contract.labels)
        return len(rows)

    def load(self) -> None:
        """Load the model, and refuse a machine that does not see the folders.

        Raises:
            LostImageError: if a folder is not there.
            EngineError: if the model cannot be loaded.
        """
        self.images.check()
        for folder in (self.out, self.scorer.directory):
            check_here(folder)
        self.scorer.engine  # noqa: B018 - loads

    def for_worker(self, num_threads: int) -> UnitScorer:
        """Return the task for another process, with a number of threads."""
        scorer = Scorer(self.scorer.directory.absolute(), precision=self.plan.precision, num_threads=num_threads)
        return replace(self, scorer=scorer, images=self.images.for_worker(), out=self.out.absolute())

    def _score(self, paths: Sequence[str]) -> Iterator[Row]:
        spec, threads = self.scorer.contract.input, self.scorer.num_threads
        files = decode_files(self.images.read, paths, spec, num_threads=threads, num_readers=self.images.num_readers)
        for rows in map_batches(partial(score_batch, self.scorer), files):
            yield from rows
