"""Measures a set into a folder of parts, and finds from all of them what an audit of the whole set finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from contract.model import InputSpec
from pipeline.audit.audit import NUM_THREADS, Audit, judge, keep_facts
from pipeline.audit.checking import UNREADABLE, Checked, Checker, Measure, Problem, check_files
from pipeline.audit.kept.copies import KeptCopies
from pipeline.audit.kept.fact_store import FactStore, define_facts
from pipeline.audit.measuring import FileMeasure, Measurer, num_processes
from pipeline.audit.units.records import from_table, to_table
from pipeline.data.ingest import Dataset, Source
from pipeline.data.names import escape_name
from pipeline.data.objects.url import ObjectUrl
from pipeline.data.pixels import Pixels
from pipeline.errors import DatasetError, LostImageError
from pipeline.recipe.data_settings import Data
from pipeline.units.make_parts import Made, PartTask, make_parts
from pipeline.units.parts import check_filled, is_done, read_part, refuse_lost_unit
from pipeline.units.plan import Listed, Plan, check_plan, keep_plan, make_plan, read_plan
from pipeline.units.work import Executor, Shard, run_here

_READERS = 16  # objects read at a time: an object takes milliseconds in which a core has nothing to do
_SHOWN = 10  # missing units named in an error


@dataclass(frozen=True)
class UnitAuditor:
    """Measures the images of a unit; can be pickled.

    Attributes:
        source: reads the files.
        measure: gives the facts of their bytes.
        definition: what the facts depend on, as `define_facts` gives it.
        spec: the input whose pixels are measured.
        deep: whether borders and colours are measured.
        num_threads: that read and measure.
    """

    source: Source
    measure: Measure
    definition: str
    spec: InputSpec
    deep: bool
    num_threads: int

    def __call__(self, paths: Sequence[str]) -> pa.Table:
        """Return a row for each image.

        Raises:
            LostImageError: if files cannot be read any more, in place of rows that are nothing but problems.
            WorkerError: if a process that measures ended before its time.
        """
        threads = _READERS if isinstance(self.source.location, ObjectUrl) else self.num_threads
        checked = list(check_files(Checker(self.source, self.measure), paths, threads))
        problems = [found for found in checked if isinstance(found, Problem)]
        if len(paths) == sum(found.code == UNREADABLE for found in problems):
            self._check_source()
        refuse_lost_unit(paths, [found.message for found in problems if found.is_refused])
        return to_table(paths, checked)

    def load(self) -> None:
        """Refuse a machine that does not see the set, or that measures in another way.

        Raises:
            LostImageError: if the set is not there.
            DatasetError: if the libraries here are others.
        """
        self._check_source()
        if define_facts(self.spec, deep=self.deep) != self.definition:
            raise DatasetError(
                "expected the versions of Fovea, Pillow and NumPy that the command has, for equal measures. "
                "Received: others; install the same on all machines"
            )

    def for_worker(self, num_threads: int) -> UnitAuditor:
        """Return the function for another process, with a number of threads."""
        measure = FileMeasure(self.spec, deep=self.deep, returns_pixels=False)
        return replace(self, measure=measure, num_threads=num_threads)

    def _check_source(self) -> None:
        location = self.source.location
        if isinstance(location, Path) and not location.exists():
            raise LostImageError(f"{escape_name(str(location))}: no such file or folder on this machine any more")
        if isinstance(location, Path) and location.is_dir():
            check_filled(location)


def plan_audit(dataset: Dataset, spec: InputSpec, data: Data, unit_rows: int) -> tuple[Plan, list[Listed]]:
    """Return the plan of an audit in units, and its images.

    Args:
        dataset: the set.
        spec: the input whose pixels are measured.
        data: the recipe's settings of the audit.
        unit_rows: images of a unit.
    """
    listing = [Listed(example.path, dataset.source.size(example.path)) for example in dataset.examples]
    measures = define_facts(spec, deep=data.is_deep(len(listing)))
    return make_plan(listing, unit_rows, {"measures": measures}), listing


def measure_units(
    dataset: Dataset,
    spec: InputSpec,
    data: Data,
    *,
    out: Path,
    unit_rows: int,
    shard: Shard | None = None,
    run: Executor = run_here,
) -> Made:
    """Measure the images of a set in units; a rerun measures the units that have no part.

    Args:
        dataset: the set.
        spec: the input whose pixels are measured.
        data: the recipe's settings of the audit.
        out: gets `_plan.json` and `part-NNNNNN.parquet`.
        unit_rows: images of a unit.
        shard: the units to measure; all by default.
        run: measures units.

    Raises:
        DatasetError: if units failed or `out` cannot be written.
        PipelineError: if `out` holds another plan.
    """
    plan, listing = plan_audit(dataset, spec, data, unit_rows)
    deep = data.is_deep(len(listing))
    try:
        out.mkdir(parents=True, exist_ok=True)
        keep_plan(out, plan)
        with Measurer(FileMeasure(spec, deep=deep, returns_pixels=False)) as measurer:
            threads = NUM_THREADS * num_processes()
            measures = str(plan.facts["measures"])
            task = PartTask(UnitAuditor(dataset.source, measurer, measures, spec, deep, threads), out, plan)
            return make_parts(task, listing, shard or Shard(), run, what="Reading")
    except OSError as err:
        raise DatasetError(f"{escape_name(str(out))} cannot be written: {err.strerror or err}") from err


def merge_audit(
    dataset: Dataset, pixels: Pixels, data: Data, *, out: Path, kept: FactStore, copies: KeptCopies
) -> Audit:
    """Find what a plain audit of the set finds, from the parts of all units.

    Args:
        dataset: the set, as it was when the parts were made.
        pixels: of the set.
        data: the recipe's settings of the audit.
        out: the folder of parts.
        kept: gets the facts, so that a run on the set decodes no image for its audit.
        copies: as `judge` takes it.

    Raises:
        DatasetError: if parts are missing.
        PipelineError: if the set or what is measured differs from the plan's.
    """
    before = read_plan(out)
    if before is None:
        raise DatasetError(f"--merge: expected parts in {out}. Received: no plan; make them without --merge")
    plan, _ = plan_audit(dataset, pixels.spec, data, before.unit_rows)
    check_plan(out, plan)
    if missing := [unit for unit in range(plan.num_units) if not is_done(out, plan, unit)]:
        named = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        raise DatasetError(
            f"--merge: expected all {plan.num_units} parts in {out}. Received: none of {len(missing)} units: {named}. "
            "Make them without --merge"
        )
    return judge(dataset, keep_facts(dataset, _read_parts(out, plan), kept), pixels, data, copies)


def _read_parts(out: Path, plan: Plan) -> Iterator[Checked | Problem]:
    for unit in range(plan.num_units):
        yield from from_table(read_part(out, unit))
