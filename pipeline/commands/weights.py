"""`weights`: fetch ImageNet weights, or say how to."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    weights = commands.add_parser(
        "weights", help="download ImageNet weights into Keras's cache, or print where to put them"
    )
    weights.add_argument("backbone")
    weights.set_defaults(command=_weights)


def _weights(arguments: argparse.Namespace) -> None:
    from pipeline.networks.backbones import find_backbone
    from pipeline.networks.weights import imagenet_file

    print(f"ImageNet weights of {arguments.backbone}: {imagenet_file(find_backbone(arguments.backbone))}")
