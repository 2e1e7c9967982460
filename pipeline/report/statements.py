"""Sentences of the report that depend on the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.novelty import FOLDS
from pipeline.recipe.augment_settings import Augment


def describe_augmentation(recipe: Mapping[str, Any]) -> str:
    """Return how training images were changed.

    Args:
        recipe: as its JSON document.
    """
    augment = Augment.model_validate(recipe["augment"])
    train = recipe["train"]
    if not augment.changes_images:
        return "Augmentation is off: training images are shown as they are."
    always = "Training images are augmented, validation images are not."
    partly_frozen = train["freeze_backbone"] or train["fine_tune"]["epochs"] > 0
    if not (partly_frozen and recipe["cache"]["features"]):
        return always
    frozen = "Stages with frozen layers, whose features are kept, show each training image"
    if augment.views == 1:
        shown = f"{frozen} as it is (augment.views=1)"
    else:
        views = augment.views - 1
        shown = f"{frozen} as it is and in {views} augmented view{'' if views == 1 else 's'}"
    return f"{shown}; other stages augment it in every epoch. Validation images are not augmented."


def describe_held_back(document: Mapping[str, Any]) -> str:
    """Return on what else than validation images the novelty check's threshold was chosen."""
    if document.get("train_groups", FOLDS) < FOLDS:  # older documents do not say
        return ""
    return " and on the training images, each fifth of them held back in turn"
