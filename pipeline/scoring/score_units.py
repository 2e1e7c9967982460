"""Scores a folder into a folder of parts: one Parquet file a unit, and a CSV when all of them are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contract.store import ModelStore
from engine.precision_names import AUTO
from pipeline.data.names import escape_name
from pipeline.data.objects.url import Location
from pipeline.errors import DatasetError, PipelineError
from pipeline.evaluation.scorer import scorer_of
from pipeline.progress import progress_bar
from pipeline.scoring.parts import count_rows, is_done, merge_parts
from pipeline.scoring.plan import Listed, Plan, hash_listing, keep_plan, read_plan
from pipeline.scoring.score_folder import LeftOut, refuse_empty
from pipeline.scoring.sources import images_at
from pipeline.scoring.units import UnitScorer
from pipeline.units.work import Executor, Outcome, Shard, run_here

_SHOWN = 20  # failed units named in an error


@dataclass(frozen=True, slots=True)
class ScoredUnits:
    """The result of one call.

    Attributes:
        plan: of the whole scoring.
        done: units that this call scored.
        kept: units whose parts were there.
        missing: units of other shards without a part yet.
        images: rows with probabilities in all parts; 0 while parts are missing.
        errors: rows with an error in all parts; 0 while parts are missing.
        merged: the CSV of all parts; None while parts are missing.
        left_out: files that are not images, in a line; "" if there are none.
    """

    plan: Plan
    done: int
    kept: int
    missing: int
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
    mine = shard or Shard()
    left_out = LeftOut()
    images = images_at(location)
    listing = images.list(left_out)
    refuse_empty(location, len(listing), left_out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        kept = read_plan(out)
        asked = kept.precision if kept is not None and precision == AUTO else precision
        with scorer_of(store, name, version, precision=asked) as scorer:
            plan = Plan(
                images=len(listing),
                listing_sha256=hash_listing(listing),
                unit_rows=unit_rows,
                model=name,
                version=version,
                contract=scorer.contract.sha256,
                precision=scorer.engine.precision,
            )
            keep_plan(out, plan)
            task = UnitScorer(scorer, images, out, plan)
            return replace(_score(task, listing, mine, run), left_out=left_out.line)
    except OSError as err:
        raise DatasetError(f"{escape_name(str(out))} cannot be written: {err.strerror or err}") from err


def _score(task: UnitScorer, listing: Sequence[Listed], shard: Shard, run: Executor) -> ScoredUnits:
    plan, out = task.plan, task.out
    units = shard.units(plan.num_units)
    todo = [unit for unit in units if not is_done(out, plan, unit)]
    work = ((unit, [image.path for image in plan.rows_of(unit, listing)]) for unit in todo)
    failed = [outcome for outcome in _show(run(task, work), plan, units, todo) if outcome.error is not None]
    if failed:
        raise _failure(failed, len(todo))
    missing = sum(not is_done(out, plan, unit) for unit in range(plan.num_units) if unit not in units)
    if missing:
        return ScoredUnits(plan, len(todo), len(units) - len(todo), missing, 0, 0, None, "")
    images, errors = count_rows(out, plan)
    merged = merge_parts(out, plan, task.scorer.contract.labels)
    return ScoredUnits(plan, len(todo), len(units) - len(todo), 0, images, errors, merged, "")


def _show(outcomes: Iterator[Outcome], plan: Plan, units: range, todo: Sequence[int]) -> Iterator[Outcome]:
    """Yield outcomes, and show the progress in images with rate and time left."""

    def images_of(numbers: Sequence[int]) -> int:
        return sum(min(plan.unit_rows, plan.images - unit * plan.unit_rows) for unit in numbers)

    with progress_bar(total=images_of(units), what="Scoring", unit="image") as bar:
        bar.update(images_of(units) - images_of(todo))
        for outcome in outcomes:
            bar.update(outcome.images)
            yield outcome


def _failure(failed: Sequence[Outcome], num_units: int) -> PipelineError:
    lines = [f"  unit {outcome.unit}: {outcome.error}" for outcome in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        lines.append(f"  and {len(failed) - _SHOWN} more")
    kinds = Counter(str(outcome.error).partition(":")[0] for outcome in failed)
    return DatasetError(
        f"{len(failed)} of {num_units} units failed three times ({', '.join(sorted(kinds))}), named above; the other "
        "parts are kept. The same command tries them again",
        lines,
    )
