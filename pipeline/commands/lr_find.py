"""`lr-find`: a learning-rate range test, without a run: the suggested rate, and the curve."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from contract.commands import spell_command
from pipeline.commands.options.data import add_data_options, data_overrides
from pipeline.commands.options.folders import add_folders, check_folders
from pipeline.commands.options.paths import check_dataset, check_folder_to_write
from pipeline.commands.options.recipe import add_name, add_recipe
from pipeline.commands.output.tables import format_table
from pipeline.errors import PipelineError, TrainingError
from pipeline.run_folder import default_name

_STEPS, _LEAST_STEPS, _MOST_STEPS = 100, 20, 1000
_SHOWN = 12  # points of the curve on the console


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("lr-find", help="find a learning rate by a range test, and write its curve")
    command.add_argument("dataset", type=Path, help="as for run")
    add_name(command)
    add_recipe(command, example="train.batch_size=16")
    command.add_argument(
        "--steps",
        type=int,
        default=_STEPS,
        help=f"most steps, {_LEAST_STEPS} to {_MOST_STEPS}, over which the rate rises",
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="for the curve; by default a folder of the model's runs"
    )
    add_data_options(command)
    add_folders(command)
    command.set_defaults(command=_find)


def _find(arguments: argparse.Namespace) -> None:
    check_dataset(arguments.dataset)
    check_folders(arguments)
    if arguments.out is not None:
        check_folder_to_write(arguments.out, "--out")
    if not _LEAST_STEPS <= arguments.steps <= _MOST_STEPS:
        raise PipelineError(f"--steps: expected {_LEAST_STEPS} to {_MOST_STEPS}. Received: {arguments.steps}")
    from contract.store import ModelStore, check_name
    from pipeline.recipe.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, data_overrides(arguments))
    name = arguments.name or default_name(arguments.dataset)
    check_name(name)
    from pipeline.report.rates import write_rates
    from pipeline.run.find_rate import find_rate

    found = find_rate(
        arguments.dataset,
        recipe,
        ModelStore(arguments.models_dir),
        name=name,
        runs_dir=arguments.runs_dir,
        steps=arguments.steps,
    )
    document = found.search.document()
    files = write_rates(found.folder if arguments.out is None else arguments.out, document)
    shown = range(0, len(found.search.rates), max(1, len(found.search.rates) // _SHOWN))
    rows = [[f"{found.search.rates[i]:.2g}", f"{found.search.losses[i]:.4g}"] for i in shown]
    for line in format_table([["rate", "loss"], *rows]):
        print(line)
    print(f"curve: {' and '.join(map(str, files))}")
    if found.search.suggested is None:
        raise TrainingError(
            f"no learning rate lowers the loss from its start: {found.search.reason}. Look at the labels with "
            f"{spell_command('audit')}, try a larger train.batch_size, or keep the default, "
            f"train.learning_rate={found.default:g}"
        )
    print(f"steepest: {found.search.steepest:g}; lowest loss: {found.search.lowest:g}, from where higher rates harm")
    print(f"suggested for stage {found.stage}: {found.search.suggested:g}")
    print(f"train with: --set train.learning_rate={found.search.suggested:g}; or train.learning_rate=find, in the run")
