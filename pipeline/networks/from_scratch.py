"""Settles what a recipe leaves open: a network without published weights trains from scratch."""

from __future__ import annotations

from pipeline.networks.own.backbone import backbone_of
from pipeline.recipe.recipe import Recipe, restart

SCRATCH = "scratch"  # the shipped recipe whose settings such a network takes


def settle(recipe: Recipe) -> Recipe:
    """Return a recipe with the settings of `scratch` where its network has no published weights to start from.

    Settings that the user has named stay. A recipe that names where its weights come from, one that extends a shipped
    recipe of training from scratch, and one that was not read by `load_recipe` stay as they are.

    Raises:
        RecipeError: if there is no such network, or the user's settings contradict training from scratch.
    """
    has_weights = recipe.names("model.weights") and recipe.model.weights != "none"
    if has_weights or recipe.is_from_scratch or backbone_of(recipe.model).imagenet:
        return recipe
    return restart(recipe, SCRATCH, leave_out=("model.backbone", "data"))
