"""Builds the user's own network of a recipe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RecipeError
from pipeline.networks.own.graph import Parts, take_apart
from pipeline.networks.own.layer_list import build_layers
from pipeline.networks.own.source_file import SourceFile
from pipeline.progress import note
from pipeline.recipe.training_settings import Model


@dataclass(frozen=True)
class OwnNetwork:
    """A network of the user's own.

    Attributes:
        parts: its graph.
        source: the bytes of its Python file; None for a list of layers.
    """

    parts: Parts
    source: bytes | None


def build_own(settings: Model, shape: tuple[int, int, int], num_classes: int) -> OwnNetwork:
    """Build the network of a recipe's `model.layers` or Python file, weights random or as the file has them.

    Raises:
        RecipeError: naming the line, and what Keras or the file says.
    """
    if settings.last_layer is not None:
        raise RecipeError(
            f"model.last_layer: expected none for a network of your own. Received: {settings.last_layer!r}"
        )
    if settings.layers is not None:
        network: Any = build_layers(settings.layers, shape, num_classes, settings.layer_places())
        return OwnNetwork(take_apart(network, shape, num_classes, "model.layers"), None)
    if settings.own_file is None:
        raise RecipeError(f"model.backbone: expected path/to/net.py:function. Received: {settings.backbone!r}")
    file = SourceFile(*settings.own_file)
    note(f"{file.path} is run as a program (sha256 {hashlib.sha256(file.content).hexdigest()})")
    with file.explained():
        parts = take_apart(file.build(shape, num_classes), shape, num_classes, file.function_name)
    return OwnNetwork(parts, file.content)
