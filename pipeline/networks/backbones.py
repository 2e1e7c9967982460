"""The networks that a classifier can be built on, one entry each, by Keras's own names."""

from __future__ import annotations

import difflib

from pipeline.errors import RecipeError
from pipeline.networks.backbone import Backbone
from pipeline.networks.classic_nets import (
    build_alexnet,
    build_googlenet,
    build_lenet,
    build_mnist_cnn,
    build_small_resnet,
)
from pipeline.networks.keras_applications import KERAS_APPLICATIONS

_FROM_SCRATCH = (
    Backbone("ResNet", "tf", 80, 32, 172_816, build_small_resnet),
    Backbone("LeNet", "tf", 28, 16, 2_872, build_lenet, head="flatten-dense", hidden_units=(120, 84)),
    Backbone("MnistCNN", "tf", 28, 16, 19_392, build_mnist_cnn, head="flatten-dense", hidden_units=(128,)),
    Backbone(
        "AlexNet",
        "tf",
        227,
        67,
        3_751_328,
        build_alexnet,
        head="flatten-dense",
        hidden_units=(4096, 4096),
    ),
    Backbone("GoogLeNet", "tf", 224, 32, 5_995_392, build_googlenet),
)

BACKBONES: dict[str, Backbone] = {backbone.name: backbone for backbone in (*KERAS_APPLICATIONS, *_FROM_SCRATCH)}


def find_backbone(name: str) -> Backbone:
    """Return a backbone by name.

    Raises:
        RecipeError: if there is none of this name.
    """
    if name not in BACKBONES:
        lower = {known.lower(): known for known in BACKBONES}
        near = difflib.get_close_matches(name.lower(), lower, n=1)
        hint = f"; did you mean {lower[near[0]]}?" if near else ""
        raise RecipeError(
            f"model.backbone: expected one of {', '.join(sorted(BACKBONES))}, or a network of your own as "
            f"path/to/net.py:build. Received: {name!r}{hint}"
        )
    return BACKBONES[name]
