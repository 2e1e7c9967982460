"""`run`: train on a folder, zip or table of images and publish the result; `resume`: go on after a stop."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from contract.commands import spell_command
from pipeline.commands.options.data import add_data_options, data_overrides
from pipeline.commands.options.folders import add_folders, check_folders
from pipeline.commands.options.location import name_of, parse_location
from pipeline.commands.options.paths import check_dataset
from pipeline.commands.options.recipe import add_name, add_recipe
from pipeline.commands.options.tta import add_tta, tta_overrides
from pipeline.commands.output.outcome import describe_outcome
from pipeline.commands.output.tables import describe_images, describe_tta, format_interval
from pipeline.metrics.wrong_label_text import describe_search
from pipeline.run_folder import find_stopped

if TYPE_CHECKING:
    from pipeline.data.objects.url import Location
    from pipeline.recipe.recipe import Recipe
    from pipeline.run.run import RunResult
    from pipeline.run.unchanged import Unchanged


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    run = commands.add_parser("run", help="train on a folder, zip or table of images and publish the result")
    run.add_argument(
        "dataset",
        type=parse_location,
        help="train/<class>/<image> and test/..., or <class>/<image>, or a CSV; or s3://, gs://, abfs://",
    )
    add_name(run)
    add_recipe(run, example="train.epochs=5", default=None)
    run.add_argument("--force", action="store_true", help="make the version live whatever the gate says")
    run.add_argument(
        "--again",
        action="store_true",
        help="train also when a version of this name was trained on the same images by the same recipe and seed; "
        "without it such a run publishes nothing and ends with status 0",
    )
    run.add_argument(
        "--warm-start",
        action="store_true",
        help="start training from the live version's weights, the same network for the same classes, and train it for "
        "a quarter of the epochs",
    )
    run.add_argument(
        "--devices",
        choices=("one", "all"),
        default="one",
        help="all: train on all GPUs of this machine, which share every batch (train.batch_size is over all of them)",
    )
    add_data_options(run)
    add_tta(run)
    run.add_argument(
        "--resume", metavar="RUN", help="continue a stopped run of this name, by its id or latest, with its own recipe"
    )
    add_folders(run)
    run.set_defaults(command=_run)
    resume = commands.add_parser("resume", help="go on with a run that was stopped, by Ctrl-C or worse")
    resume.add_argument("run", metavar="NAME[/RUN]", help="a model's name, for its latest run, or with the run's id")
    add_folders(resume)
    resume.set_defaults(command=_resume)


def _run(arguments: argparse.Namespace) -> None:
    check_dataset(arguments.dataset)
    check_folders(arguments)
    from contract.store import ModelStore
    from pipeline.recipe.recipe import load_recipe

    overrides = [*data_overrides(arguments), *tta_overrides(arguments)]
    name = arguments.name or name_of(arguments.dataset)
    store, runs_dir = ModelStore(arguments.models_dir), arguments.runs_dir
    stopped = None if arguments.resume is None else find_stopped(runs_dir, f"{name}/{arguments.resume}")
    as_it_was = stopped is not None and arguments.recipe is None and not overrides
    recipe = None if as_it_was else load_recipe(arguments.recipe or "default", overrides)
    if recipe is not None:
        _refuse_early(arguments.dataset, recipe, name)
    from pipeline.run.run import RunResult, resume, run

    if stopped is not None:
        print_result(resume(stopped, store, location=arguments.dataset, recipe=recipe))
    elif recipe is not None:
        result = run(
            arguments.dataset,
            recipe,
            store,
            name=name,
            runs_dir=runs_dir,
            force=arguments.force,
            again=arguments.again,
            warm_start=arguments.warm_start,
            devices=arguments.devices,
        )
        if isinstance(result, RunResult):
            print_result(result)
        else:
            print_unchanged(result)


def _refuse_early(dataset: Location, recipe: Recipe, name: str) -> None:
    """Refuse a name, a network or a layout of folders as the run would, seconds before Keras is imported.

    The run lists the images again.
    """
    from contract.store import check_name
    from pipeline.data.ingest import describe_reading, ingest
    from pipeline.networks.own.backbone import backbone_of

    check_name(name)
    backbone_of(recipe.model)
    for line in describe_reading(ingest(dataset, recipe.data)):
        print(line)


def _resume(arguments: argparse.Namespace) -> None:
    folder = find_stopped(arguments.runs_dir, arguments.run)
    check_folders(arguments)
    from contract.store import ModelStore
    from pipeline.run.run import resume

    print_result(resume(folder, ModelStore(arguments.models_dir)))


def print_unchanged(unchanged: Unchanged) -> None:
    """Print why a run has published nothing, and what there is instead."""
    print(f"report: {unchanged.report}")
    print(f"nothing new: {unchanged.reason}; train all the same with --again, or change the images, recipe or seed")
    name, version = unchanged.name, unchanged.version
    if unchanged.is_live:
        print(f"live: {name}/{version}")
    else:
        print(
            f"{unchanged.roles[0] if unchanged.roles else 'not served'}: {name}/{version}; "
            f"make it live with: {spell_command(f'promote {name} {version}')}"
        )


def print_result(result: RunResult) -> None:
    """Print what a run has done, after its warnings, the weightiest first: progress bars have buried them."""
    for warning in result.warnings:
        print(f"warning: {warning.text}")
    for deviation in result.verification.deviations:
        print(
            f"verified: {deviation.images} images on {deviation.engine} at {deviation.precision}, "
            f"at most {deviation.max_deviation:.1e} from the Keras model"
        )
    for found in result.verification.equivalences or ():
        print(f"{found.precision} on {found.engine}: {found.words}")
    interval = format_interval(result.test["accuracy_interval"])
    print(f"test accuracy: {result.test['accuracy']:.4f}{interval} on {describe_images(result.test)}")
    for line in describe_tta({"tta": result.tta} if result.tta else {}):
        print(line)
    if result.wrong_labels is not None:
        print(f"labels: {describe_search(result.wrong_labels.document())}")
    print(f"report: {result.folder / 'report.html'}")
    print(f"published: {result.directory}")
    for line in describe_outcome(result.gate, result.name, result.version):
        print(line)
    if result.gate.becomes_live:
        print(f"serve it with: {spell_command('serve')}")
