"""Scores a unit: a pure function from its images to the rows of its part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from pipeline.data.map_batches import map_batches
from pipeline.evaluation.scorer import Scorer, decode_files
from pipeline.scoring.parts import to_table
from pipeline.scoring.score_folder import UNREADABLE, Row, score_batch
from pipeline.scoring.sources import Images
from pipeline.units.parts import check_here, refuse_lost_unit


@dataclass(frozen=True)
class UnitScorer:
    """Scores the images of a unit; it can be pickled, and then loads the model where it runs.

    Attributes:
        scorer: of the version, at the plan's precision.
        images: reads them.
    """

    scorer: Scorer
    images: Images

    def __call__(self, paths: Sequence[str]) -> pa.Table:
        """Return a row for each image.

        Raises:
            LostImageError: if images cannot be read any more, in place of rows that are nothing but errors.
            EngineError: if the model cannot be loaded or run.
        """
        rows = list(self._score(paths))
        if all(row.probabilities is None for row in rows):
            self.images.check()
        refuse_lost_unit(paths, [row.error for row in rows if row.error.startswith(f"{UNREADABLE}: ")])
        return to_table(rows, self.scorer.contract.labels)

    def load(self) -> None:
        """Load the model, and refuse a machine that does not see the folders.

        Raises:
            LostImageError: if a folder is not there.
            EngineError: if the model cannot be loaded.
        """
        self.images.check()
        check_here(self.scorer.directory)
        self.scorer.engine  # noqa: B018 - loads

    def for_worker(self, num_threads: int) -> UnitScorer:
        """Return the function for another process, with a number of threads."""
        precision = self.scorer.engine.precision  # "auto" is resolved once
        scorer = Scorer(self.scorer.directory.absolute(), precision=precision, num_threads=num_threads)
        return replace(self, scorer=scorer, images=self.images.for_worker())

    def _score(self, paths: Sequence[str]) -> Iterator[Row]:
        spec, threads = self.scorer.contract.input, self.scorer.num_threads
        files = decode_files(self.images.read, paths, spec, num_threads=threads, num_readers=self.images.num_readers)
        for rows in map_batches(partial(score_batch, self.scorer), files):
            yield from rows
