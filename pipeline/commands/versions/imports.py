"""`import`: publish a SavedModel, Keras file or ONNX file that another program wrote."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from pipeline.commands.options.folders import add_folders
from pipeline.commands.options.geometry import add_arithmetic, add_geometry, chosen_preprocessing
from pipeline.commands.options.paths import check_file, check_folder_to_write
from pipeline.commands.output.outcome import describe_outcome


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser(
        "import", help="publish a model that another program wrote: SavedModel, .keras, .h5, .onnx"
    )
    command.add_argument(
        "model", type=Path, metavar="MODEL", help="a SavedModel's folder, or a .keras, .h5 or .onnx file"
    )
    command.add_argument("--name", required=True, help="the model to be")
    command.add_argument(
        "--labels", type=Path, help="class names in index order: text, JSON, Keras's class index, Teachable Machine's"
    )
    add_arithmetic(command, default="none")
    command.add_argument("--softmax", action="store_true", help="the model gives logits")
    command.add_argument(
        "--binary",
        action="store_true",
        help="the model gives one number, the probability of the second of two classes (with --softmax: its logit)",
    )
    command.add_argument("--input-size", type=_size, metavar="HEIGHTxWIDTH", help="where the model leaves it open")
    add_geometry(command, fit="stretch")
    command.add_argument("--force", action="store_true", help="make the version live whatever the gate says")
    add_folders(command)
    command.set_defaults(command=_import)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, such as 224x224. Received: {text!r}")
    return int(found.group(1)), int(found.group(2))


def _import(arguments: argparse.Namespace) -> None:
    _refuse_early(arguments)
    from contract.store import ModelStore
    from engine.network_file import has_network_file
    from pipeline.publishing.gate import Gatekeeper
    from pipeline.publishing.imports.foreign_outputs import Output, Values
    from pipeline.publishing.imports.import_model import ImportSettings, import_model
    from pipeline.recipe.gate_settings import Gate

    store = ModelStore(arguments.models_dir)
    settings = ImportSettings(
        labels=arguments.labels,
        preprocessing=chosen_preprocessing(arguments) or "none",
        output=Output(Values.LOGITS if arguments.softmax else Values.PROBABILITIES, arguments.binary),
        input_size=arguments.input_size,
        resize=arguments.resize,
        fit=arguments.fit,
        crop_fraction=arguments.crop_fraction,
    )
    gatekeeper = Gatekeeper(Gate(), store, arguments.runs_dir, force=arguments.force)
    imported = import_model(arguments.model, arguments.name, settings, gatekeeper)
    spec = imported.contract.input
    print(
        f"imported: {len(imported.contract.labels)} classes from {spec.height} x {spec.width} {spec.color} images"
        + ("; explanations are not available" if imported.contract.saliency is None else "")
    )
    directory = store.version_path(arguments.name, imported.version)
    print(f"published: {directory}")
    if has_network_file(directory):
        print("served by: Fovea's model server alone; TensorFlow Serving cannot run an ONNX file")
    for line in describe_outcome(imported.gate, arguments.name, imported.version):
        print(line)


def _refuse_early(arguments: argparse.Namespace) -> None:
    """Refuse paths, names and flags before TensorFlow is imported."""
    from pipeline.publishing.imports.model_files import find_kind

    check_file(arguments.labels, "--labels")
    find_kind(arguments.model)
    check_folder_to_write(arguments.models_dir, "--models-dir")
    from contract.store import check_name
    from pipeline.publishing.imports.label_files import read_labels

    check_name(arguments.name)
    chosen_preprocessing(arguments)
    if arguments.labels is not None:
        read_labels(arguments.labels)
