"""`audit`: find faults in images, before any training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options.data import add_data_options, data_overrides
from pipeline.commands.options.folders import add_folders
from pipeline.commands.options.location import name_of, parse_location
from pipeline.commands.options.paths import check_dataset, check_folder_to_write
from pipeline.recipe.recipe_files import shipped_recipes
from pipeline.run_folder import new_folder


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    audit = commands.add_parser("audit", help="find faults in a data set's images; exit status 1 on errors")
    audit.add_argument(
        "dataset",
        type=parse_location,
        help="a folder, a zip, a CSV, TSV or Parquet file with path and label, or s3://, gs://, abfs://",
    )
    audit.add_argument("--name", help="the model's name; by default the folder's")
    audit.add_argument("--recipe", default="default", help=f"{', '.join(shipped_recipes())}, or a YAML file")
    audit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as data.group=REGEX")
    add_data_options(audit)
    audit.add_argument("--quarantine", type=Path, metavar="DIR", help="copy the bad files there, with a list")
    add_folders(audit)
    audit.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> None:
    check_dataset(arguments.dataset)
    check_folder_to_write(arguments.runs_dir, "--runs-dir")
    from contract.store import check_name
    from pipeline.recipe.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, data_overrides(arguments))
    name = arguments.name or name_of(arguments.dataset)
    check_name(name)
    from pipeline.audit.audit import audit, check_audit
    from pipeline.audit.audit_record import audit_table, quarantine, write_audit
    from pipeline.data.ingest import ingest
    from pipeline.data.pixels import Pixels
    from pipeline.data.split import earlier_sides, split_images
    from pipeline.run.prepare import input_spec, open_caches

    dataset = ingest(arguments.dataset, recipe.data)
    spec = input_spec(recipe)
    pixels = Pixels(dataset.source, spec, cache_bytes=0)
    facts, copies = open_caches(arguments.runs_dir, recipe, spec, len(dataset.examples))
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
