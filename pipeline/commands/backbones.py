"""`backbones`: the networks that a recipe can name."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pipeline.networks.backbones import BACKBONES
from pipeline.networks.preprocessing import summarize_preprocessing


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    backbones = commands.add_parser("backbones", help="list the networks that model.backbone can name")
    backbones.set_defaults(command=_backbones)


def _backbones(arguments: argparse.Namespace) -> None:
    print(f"{'name':<18} {'input':>5} {'least':>5} {'parameters':>11}  {'weights':<8}  {'made for':<9}  pixels become")
    for backbone in BACKBONES.values():
        weights = "imagenet" if backbone.imagenet else "none"
        color = "rgb" if backbone.repeats_grey else "rgb, grey"
        print(
            f"{backbone.name:<18} {backbone.input_size:>5} {backbone.min_size:>5} {backbone.parameters:>11,}  "
            f"{weights:<8}  {color:<9}  {summarize_preprocessing(backbone.preprocessing)}"
        )
    # Beside the table, whose lines programs read.
    print(
        "All take grey images (data.color=grey); those made for rgb repeat the channel. "
        "A network of your own: model.layers=[...] or model.backbone=path/to/net.py:build",
        file=sys.stderr,
    )
