"""`audit`: find faults in images, before any training; of many images by parts, which several machines make."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.commands import spell_command
from pipeline.commands.options.data import add_data_options, data_overrides
from pipeline.commands.options.executor import (
    add_executor,
    read_executor,
    read_shard,
    read_unit_rows,
    refuse_executor,
)
from pipeline.commands.options.folders import add_folders
from pipeline.commands.options.location import name_of, parse_location
from pipeline.commands.options.paths import check_dataset, check_folder_to_write
from pipeline.commands.options.recipe import add_name, add_recipe
from pipeline.errors import PipelineError
from pipeline.run_folder import new_folder

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    audit = commands.add_parser("audit", help="find faults in a data set's images; exit status 1 on errors")
    audit.add_argument(
        "dataset",
        type=parse_location,
        help="a folder, a zip, a CSV, TSV or Parquet file with path and label, or s3://, gs://, abfs://",
    )
    add_name(audit)
    add_recipe(audit, example="data.group=REGEX")
    add_data_options(audit)
    audit.add_argument("--quarantine", type=Path, metavar="DIR", help="copy the bad files there, with a list")
    audit.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="only measure the images, into Parquet parts in a folder, which a rerun completes",
    )
    audit.add_argument(
        "--merge",
        action="store_true",
        help="find pairs and all other faults from the parts in --out, measuring none",
    )
    add_executor(audit)
    add_folders(audit)
    audit.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> None:
    check_dataset(arguments.dataset)
    _check_parts(arguments)
    check_folder_to_write(arguments.runs_dir, "--runs-dir")
    from contract.store import check_name
    from pipeline.recipe.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, data_overrides(arguments))
    name = arguments.name or name_of(arguments.dataset)
    check_name(name)
    if arguments.out is not None and not arguments.merge:
        _measure(arguments, recipe)
    else:
        _find(arguments, recipe, name)


def _check_parts(arguments: argparse.Namespace) -> None:
    """Refuse options of parts that contradict each other, before anything is read."""
    if arguments.out is None:
        refuse_executor(arguments, "expected --out DIR with it, a folder for parts")
        if arguments.merge:
            raise PipelineError("--merge: expected --out DIR with it, a folder of parts")
        return
    if arguments.merge:
        refuse_executor(arguments, "expected no --merge with it: --merge measures nothing")
        return
    if arguments.quarantine:
        raise PipelineError("--quarantine: expected --merge with it, or no --out: parts tell no faults yet")
    check_folder_to_write(arguments.out, "--out")


def _measure(arguments: argparse.Namespace, recipe: Recipe) -> None:
    rows, shard, run = read_unit_rows(arguments), read_shard(arguments.shard), read_executor(arguments)
    from pipeline.audit.units.audit_units import measure_units
    from pipeline.data.ingest import ingest
    from pipeline.run.prepare import input_spec

    dataset = ingest(arguments.dataset, recipe.data)
    made = measure_units(
        dataset, input_spec(recipe), recipe.data, out=arguments.out, unit_rows=rows, shard=shard, run=run
    )
    print(f"units: {made.describe('measured')}")
    if not made.missing:
        merge = spell_command(f"audit {shlex.quote(str(arguments.dataset))} --out {shlex.quote(str(arguments.out))}")
        print(f"all parts are there; find faults with: {merge} --merge")


def _find(arguments: argparse.Namespace, recipe: Recipe, name: str) -> None:
    from pipeline.audit.audit import audit, check_audit
    from pipeline.audit.audit_record import audit_table, quarantine, write_audit
    from pipeline.audit.units.audit_units import merge_audit
    from pipeline.data.ingest import ingest
    from pipeline.data.pixels import Pixels
    from pipeline.data.split import earlier_sides, split_images
    from pipeline.run.prepare import input_spec, open_caches

    dataset, spec = ingest(arguments.dataset, recipe.data), input_spec(recipe)
    pixels = Pixels(dataset.source, spec, cache_bytes=0)
    facts, copies = open_caches(arguments.runs_dir, recipe, spec, len(dataset.examples))
    if arguments.merge:
        found = merge_audit(dataset, pixels, recipe.data, out=arguments.out, kept=facts, copies=copies)
    else:
        found = audit(dataset, pixels, recipe.data, facts, copies)
    folder = new_folder(arguments.runs_dir / name)
    write_audit(folder, dataset, found, pixels)
    print(audit_table(dataset, found))
    print(f"\ngallery: {folder / 'audit.html'}")
    if arguments.quarantine:
        print(f"quarantine: {quarantine(dataset.source, found, arguments.quarantine)} files in {arguments.quarantine}")
    check_audit(found, dataset.labels, recipe.data)
    # Nothing is kept of it: that the set can be split is the last thing a run asks before it trains.
    sides = earlier_sides(folder.parent)
    split_images(found.images, recipe.data, recipe.train.seed, earlier=sides, near=found.near)
