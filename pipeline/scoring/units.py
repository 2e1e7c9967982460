"""Scores a unit: a pure function from its images to its part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from socket import gethostname

from pipeline.data.map_batches import map_batches
from pipeline.data.names import unescape_name
from pipeline.errors import LostImageError
from pipeline.evaluation.scorer import Scorer, decode_files
from pipeline.scoring.parts import write_part
from pipeline.scoring.plan import Plan
from pipeline.scoring.score_folder import Row, score_batch


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

    def load(self) -> None:
        """Load the model, and refuse a machine that does not see the folders.

        Raises:
            LostImageError: if a folder is not there.
            EngineError: if the model cannot be loaded.
        """
        for folder in (self.folder, self.out, self.scorer.directory):
            if not folder.is_dir():
                raise LostImageError(
                    f"{folder}: no such folder on {gethostname()}; workers read and write shared folders"
                )
        self.scorer.engine  # noqa: B018 - loads

    def for_worker(self, num_threads: int) -> UnitScorer:
        """Return the task for another process, with a number of threads."""
        scorer = Scorer(self.scorer.directory.absolute(), precision=self.plan.precision, num_threads=num_threads)
        return replace(self, scorer=scorer, folder=self.folder.absolute(), out=self.out.absolute())

    def _score(self, paths: Sequence[str]) -> Iterator[Row]:
        files = decode_files(self._read, paths, self.scorer.contract.input, num_threads=self.scorer.num_threads)
        for rows in map_batches(partial(score_batch, self.scorer), files):
            yield from rows

    def _read(self, path: str) -> bytes:
        return (self.folder / unescape_name(path)).read_bytes()
