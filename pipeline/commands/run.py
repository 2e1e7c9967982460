"""`run`: train on a folder, zip or table of images and publish the result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from contract.store import ModelStore
from pipeline.commands.folders import add_folders
from pipeline.commands.outcome import describe_outcome
from pipeline.recipe import load_recipe, shipped_recipes
from pipeline.run_folder import default_name


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    run = commands.add_parser("run", help="train on a folder, zip or table of images and publish the result")
    run.add_argument("dataset", type=Path, help="train/<class>/<image> and test/..., or <class>/<image>, or a CSV")
    run.add_argument("--name", help="the model's name; by default the folder's")
    run.add_argument("--recipe", default="default", help=f"{', '.join(shipped_recipes())}, or a YAML file")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as train.epochs=5")
    run.add_argument("--force", action="store_true", help="make the version live whatever the gate says")
    run.add_argument("--allow-leakage", action="store_true", help="let test images be copies of training images")
    add_folders(run)
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> None:
    leakage = ["data.allow_leakage=true"] if arguments.allow_leakage else []
    recipe = load_recipe(arguments.recipe, [*arguments.set, *leakage])
    name = arguments.name or default_name(arguments.dataset)
    from pipeline.run import run  # after the recipe is known to be right: importing Keras takes seconds

    store = ModelStore(arguments.models_dir)
    result = run(arguments.dataset, recipe, store, name=name, runs_dir=arguments.runs_dir, force=arguments.force)
    for deviation in result.deviations:
        print(
            f"verified: {deviation.images} images on {deviation.engine} at {deviation.precision}, "
            f"at most {deviation.max_deviation:.1e} from the Keras model"
        )
    print(f"test accuracy: {result.test['accuracy']:.4f} on {result.test['images']} images")
    print(f"report: {result.folder / 'report.html'}")
    print(f"published: {result.directory}")
    for line in describe_outcome(result.gate, name, result.version):
        print(line)
