"""The facts of a recipe's network, whether it is a named backbone or the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.networks.backbone import Backbone, Shape
from pipeline.networks.backbones import find_backbone
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.training_settings import LAYERS, Model

INPUT_SIZE = 64  # pixels, where the recipe does not say


def backbone_of(settings: Model) -> Backbone:
    """Return the facts of a recipe's network.

    Raises:
        RecipeError: if it names a backbone that there is not.
    """
    if settings.layers is not None:
        return _own(LAYERS)
    if settings.own_file is not None:
        path, function = settings.own_file
        return _own(f"{Path(path).name}:{function}")
    return find_backbone(settings.backbone)


def is_own(settings: Model) -> bool:
    """Return whether a recipe's network is the user's own."""
    return settings.layers is not None or settings.own_file is not None


def without_folder(recipe: Recipe) -> Recipe:
    """Return a recipe that names its network without the folder of a file, which is this machine's.

    Raises:
        RecipeError: if it names a backbone that there is not.
    """
    model = recipe.model.model_copy(update={"backbone": backbone_of(recipe.model).name})
    return recipe.model_copy(update={"model": model})


def _own(name: str) -> Backbone:
    def build(shape: Shape) -> Any:
        raise TypeError(f"{name} has no layers before its head: it is built whole")

    return Backbone(name, "unit", INPUT_SIZE, 1, 0, build)
