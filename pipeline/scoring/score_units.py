"""Scores a folder into a folder of parts: one Parquet file a unit, and a CSV when all of them are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contract.store import ModelStore
from engine.precision_names import AUTO
from pipeline.data.names import escape_name
from pipeline.data.objects.url import Location
from pipeline.errors import DatasetError
from pipeline.evaluation.scorer import scorer_of
from pipeline.scoring.parts import count_rows, merge_parts
from pipeline.scoring.score_folder import LeftOut, refuse_empty
from pipeline.scoring.sources import images_at
from pipeline.scoring.units import UnitScorer
from pipeline.units.make_parts import Made, PartTask, make_parts
from pipeline.units.plan import keep_plan, make_plan, read_plan
from pipeline.units.work import Executor, Shard, run_here


@dataclass(frozen=True, slots=True)
class ScoredUnits:
    """The result of one call.

    Attributes:
        made: units that this call scored, that were there and that are missing.
        images: rows with probabilities in all parts; 0 while parts are missing.
        errors: rows with an error in all parts; 0 while parts are missing.
        merged: the CSV of all parts; None while parts are missing.
        left_out: files that are not images, in a line; "" if there are none.
    """

    made: Made
    images: int
    errors: int
    merged: Path | None
    left_out: str


def score_units(
    store: ModelStore,
    name: str,
    version: int,
    *,
    location: Location,
    out: Path,
    unit_rows: int,
    precision: str = AUTO,
    shard: Shard | None = None,
    run: Executor = run_here,
) -> ScoredUnits:
    """Score the images below a folder in units of a sorted listing; a rerun scores the units that have no part.

    Args:
        store: has the version.
        name: the model.
        version: its number.
        location: a folder with all its subfolders, or an address of object storage.
        out: gets `_plan.json`, `part-NNNNNN.parquet` and, when all parts are there, `_scores.csv`.
        unit_rows: images of a unit.
        precision: "auto" (the plan's, else a faster one where the version's verification allows it), or which.
        shard: the units to score; all by default.
        run: scores units.

    Raises:
        DatasetError: if there is no such folder, it has no images, or units failed.
        PipelineError: if `out` holds another scoring.
        EngineError: if the version cannot be loaded, or not at that precision on this machine.
    """
    left_out = LeftOut()
    images = images_at(location)
    listing = images.list(left_out)
    refuse_empty(location, len(listing), left_out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        kept = read_plan(out)
        asked = str(kept.facts.get("precision", precision)) if kept is not None and precision == AUTO else precision
        with scorer_of(store, name, version, precision=asked) as scorer:
            facts: dict[str, str | int] = {
                "model": name,
                "version": version,
                "contract": scorer.contract.sha256,  # names the decoder
                "precision": scorer.engine.precision,
            }
            plan = make_plan(listing, unit_rows, facts)
            keep_plan(out, plan)
            task = PartTask(UnitScorer(scorer, images), out, plan)
            made = make_parts(task, listing, shard or Shard(), run, what="Scoring")
            if made.missing:
                return ScoredUnits(made, 0, 0, None, left_out.line)
            labels = scorer.contract.labels
            return ScoredUnits(made, *count_rows(out, plan), merge_parts(out, plan, labels), left_out.line)
    except OSError as err:
        raise DatasetError(f"{escape_name(str(out))} cannot be written: {err.strerror or err}") from err
