"""`import`: publish a SavedModel that another program wrote."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from pipeline.commands.folders import add_folders
from pipeline.commands.output.outcome import describe_outcome
from pipeline.commands.paths import check_file, check_folder

_PREPROCESSINGS = ("none", "unit", "tf", "caffe", "torch")


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("import", help="publish a SavedModel that another program wrote")
    command.add_argument("directory", type=Path, metavar="DIR", help="the SavedModel")
    command.add_argument("--name", required=True, help="the model to be")
    command.add_argument("--labels", type=Path, help="class names in index order: text, JSON or Keras's class index")
    command.add_argument(
        "--preprocessing",
        choices=_PREPROCESSINGS,
        default="none",
        help="pixels of a float model: none (0 to 255, the default), unit (0 to 1), or Keras's modes tf (-1 to 1), "
        "caffe, torch",
    )
    command.add_argument("--softmax", action="store_true", help="the model gives logits")
    command.add_argument("--input-size", type=_size, metavar="HEIGHTxWIDTH", help="where the model leaves it open")
    command.add_argument("--resize", choices=("nearest", "bilinear", "bicubic", "area"), default="bilinear")
    command.add_argument("--fit", choices=("stretch", "crop", "pad"), default="stretch")
    command.add_argument("--force", action="store_true", help="make the version live whatever the gate says")
    add_folders(command)
    command.set_defaults(command=_import)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, such as 224x224. Received: {text!r}")
    return int(found.group(1)), int(found.group(2))


def _import(arguments: argparse.Namespace) -> None:
    check_folder(arguments.directory, "a SavedModel's folder")
    check_file(arguments.labels, "--labels")
    from contract.store import ModelStore
    from pipeline.publishing.gate import Gatekeeper
    from pipeline.publishing.imports import ImportSettings, import_model
    from pipeline.recipe.gate_settings import Gate

    store = ModelStore(arguments.models_dir)
    settings = ImportSettings(
        labels=arguments.labels,
        preprocessing=arguments.preprocessing,
        softmax=arguments.softmax,
        input_size=arguments.input_size,
        resize=arguments.resize,
        fit=arguments.fit,
    )
    gatekeeper = Gatekeeper(Gate(), store, arguments.runs_dir, force=arguments.force)
    imported = import_model(arguments.directory, arguments.name, settings, gatekeeper)
    spec = imported.contract.input
    print(
        f"imported: {len(imported.contract.labels)} classes from {spec.height} x {spec.width} {spec.color} images"
        + ("; explanations are not available" if imported.contract.saliency is None else "")
    )
    print(f"published: {store.version_path(arguments.name, imported.version)}")
    for line in describe_outcome(imported.gate, arguments.name, imported.version):
        print(line)
