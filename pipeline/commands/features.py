"""`features`: compute what a frozen network gives of all images before a run, in units, by several machines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options.data import add_data_options, data_overrides
from pipeline.commands.options.executor import add_executor, read_executor, read_shard, read_unit_rows
from pipeline.commands.options.folders import add_folders, check_folders
from pipeline.commands.options.location import name_of, parse_location
from pipeline.commands.options.paths import check_dataset, check_folder_to_write
from pipeline.commands.options.recipe import add_name, add_recipe


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser(
        "features", help="compute a frozen network's features of all images in units, for a later run"
    )
    command.add_argument("dataset", type=parse_location, help="as for run")
    add_name(command)
    add_recipe(command, example="model.backbone=VGG16, as the run will have it")
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="keeps what is done; the features go to the runs' folder"
    )
    add_executor(command)
    add_data_options(command)
    add_folders(command)
    command.set_defaults(command=_keep)


def _keep(arguments: argparse.Namespace) -> None:
    check_dataset(arguments.dataset)
    check_folders(arguments)
    check_folder_to_write(arguments.out, "--out")
    rows, shard, run = read_unit_rows(arguments), read_shard(arguments.shard), read_executor(arguments)
    from contract.store import ModelStore
    from pipeline.recipe.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, data_overrides(arguments))
    from pipeline.run.feature_units import keep_features

    made = keep_features(
        arguments.dataset,
        recipe,
        ModelStore(arguments.models_dir),
        name=arguments.name or name_of(arguments.dataset),
        runs_dir=arguments.runs_dir,
        out=arguments.out,
        unit_rows=rows,
        shard=shard,
        run=run,
    )
    print(f"units: {made.describe('computed')}")
    if not made.missing:
        print("all features are there: a run with the same options finds them")
