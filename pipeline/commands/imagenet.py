"""`imagenet`: publish an ImageNet network of Keras's with its 1000 labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options.folders import add_folders
from pipeline.commands.options.geometry import add_arithmetic, add_geometry, chosen_preprocessing
from pipeline.commands.options.paths import check_file, check_folder_to_write
from pipeline.commands.output.outcome import describe_outcome


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("imagenet", help="publish a published 1000-class ImageNet network with its labels")
    command.add_argument("--backbone", default="ResNet50", help="a Keras application (default: %(default)s)")
    command.add_argument(
        "--weights", type=Path, metavar="FILE", help="with classification layers; default: Keras's, downloaded"
    )
    command.add_argument("--name", help="the model to be; default: the backbone's name in lower case")
    command.add_argument(
        "--class-index", type=Path, metavar="FILE", help="class names in index order; default: Keras's, downloaded"
    )
    add_geometry(command, fit="crop")
    add_arithmetic(command, default="the backbone's")
    command.add_argument("--force", action="store_true", help="make the version live whatever the gate says")
    add_folders(command)
    command.set_defaults(command=_imagenet)


def _imagenet(arguments: argparse.Namespace) -> None:
    check_file(arguments.weights, "--weights")
    check_file(arguments.class_index, "--class-index")
    check_folder_to_write(arguments.models_dir, "--models-dir")
    from contract.store import ModelStore
    from pipeline.networks.backbones import find_backbone
    from pipeline.publishing.gate import Gatekeeper
    from pipeline.publishing.imagenet import ImagenetSettings, publish_imagenet
    from pipeline.recipe.gate_settings import Gate

    backbone = find_backbone(arguments.backbone)
    name = arguments.name or backbone.name.lower()
    store = ModelStore(arguments.models_dir)
    settings = ImagenetSettings(
        backbone,
        weights=arguments.weights,
        class_index=arguments.class_index,
        resize=arguments.resize,
        fit=arguments.fit,
        crop_fraction=arguments.crop_fraction,
        preprocessing=chosen_preprocessing(arguments),
    )
    gatekeeper = Gatekeeper(Gate(), store, arguments.runs_dir, force=arguments.force)
    published = publish_imagenet(name, settings, gatekeeper)
    spec = published.contract.input
    size = f"{spec.height} x {spec.width}"
    print(f"{backbone.name}: {len(published.contract.labels)} classes from {size} {spec.color} images")
    print(f"published: {store.version_path(name, published.version)}")
    for line in describe_outcome(published.gate, name, published.version):
        print(line)
