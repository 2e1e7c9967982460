"""The command line: `python -m pipeline COMMAND`. Thin: parses, calls one function, prints what it returned.

Exit status: 0 done (warnings allowed), 1 refused or failed (the reason is the last line of stderr), 2 wrong use.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.errors import ContractError
from contract.store import ModelStore
from engine.errors import EngineError
from pipeline.errors import PipelineError
from pipeline.recipe import load_recipe, shipped_recipes


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    # Before TensorFlow is imported: its start-up notes would bury what the user is to read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # deprecations are for its developers, not its users
    try:
        arguments.command(arguments)
    except (PipelineError, ContractError, EngineError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was published", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="A folder of images in, a model out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="train on a folder or zip of images and publish the result")
    run.add_argument("dataset", type=Path, help="train/<class>/<image> and test/<class>/<image>, or <class>/<image>")
    run.add_argument("--name", help="the model's name; by default the folder's")
    run.add_argument("--recipe", default="default", help=f"{', '.join(shipped_recipes())}, or a YAML file")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as train.epochs=5")
    _add_folders(run)
    run.set_defaults(command=_run)

    sample = commands.add_parser("sample", help="draw a synthetic set to try things on")
    sample.add_argument("kind", choices=["glaucoma"])
    sample.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(command=_sample)

    weights = commands.add_parser("weights", help="fetch ImageNet weights into Keras's cache, or say how to")
    weights.add_argument("backbone")
    weights.set_defaults(command=_weights)

    models = commands.add_parser("models", help="list the models in the store")
    _add_folders(models)
    models.set_defaults(command=_models)
    for role, text in (("promote", "make the candidate live"), ("rollback", "make the previous version live again")):
        change = commands.add_parser(role, help=text)
        change.add_argument("name")
        _add_folders(change)
        change.set_defaults(command=_change, role=role)
    return parser


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="the model store")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are recorded")


def _run(arguments: argparse.Namespace) -> None:
    recipe = load_recipe(arguments.recipe, arguments.set)
    name = arguments.name or _default_name(arguments.dataset)
    from pipeline.run import run  # after the recipe is known to be right: importing Keras takes seconds

    result = run(arguments.dataset, recipe, ModelStore(arguments.models_dir), name=name, runs_dir=arguments.runs_dir)
    for deviation in result.deviations:
        print(
            f"verified: {deviation.images} images on {deviation.engine} at {deviation.precision}, "
            f"at most {deviation.max_deviation:.1e} from the Keras model"
        )
    print(f"test accuracy: {result.test['accuracy']:.4f} on {result.test['images']} images")
    print(f"report: {result.folder / 'report.html'}")
    print(f"published: {result.directory}")


def _default_name(dataset: Path) -> str:
    """Return the folder's or zip's name with what a model's name cannot have made into dashes."""
    name = dataset.resolve().name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name.removesuffix(".zip")).strip("-")[:64] or "model"


def _sample(arguments: argparse.Namespace) -> None:
    from pipeline.sample import write_glaucoma_set

    write_glaucoma_set(arguments.out, seed=arguments.seed)
    print(f"written: {arguments.out}")


def _weights(arguments: argparse.Namespace) -> None:
    from pipeline.weights import imagenet_file

    print(f"ImageNet weights of {arguments.backbone}: {imagenet_file(arguments.backbone)}")


def _models(arguments: argparse.Namespace) -> None:
    for name, entry in sorted(ModelStore(arguments.models_dir).read_index().items()):
        roles = ((role, getattr(entry, role)) for role in ("live", "previous", "candidate"))
        print(f"{name}: " + ", ".join(f"{role} {version}" for role, version in roles if version is not None))


def _change(arguments: argparse.Namespace) -> None:
    entry = getattr(ModelStore(arguments.models_dir), arguments.role)(arguments.name)
    print(f"{arguments.name}: live is version {entry.live}")


if __name__ == "__main__":
    sys.exit(main())
