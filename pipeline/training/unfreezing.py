"""Plans the stages of training, and freezes and unfreezes the blocks that train in each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.data.pixels import Pixels
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.networks.network import Classifier
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.training_settings import FineTune, Train

FINE_TUNE = "fine-tune"


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Attributes:
        name: "head", "network" or "fine-tune".
        epochs: at most this many.
        learning_rate: at the start, or after the warm-up; "find" until it is found.
        trainable: the backbone layers that train; the head always does.
    """

    name: str
    epochs: int
    learning_rate: float | Literal["find"]
    trainable: frozenset[str]


def rate_of(stage: Stage) -> float:
    """Return the learning rate of a stage that has one."""
    if isinstance(stage.learning_rate, str):
        raise ValueError(f"the learning rate of stage {stage.name} is not found yet")
    return stage.learning_rate


def default_rate(stage: Stage) -> float:
    """Return the learning rate of a stage whose recipe names none."""
    rate = (FineTune() if stage.name == FINE_TUNE else Train()).learning_rate
    return float(rate)


def plan_stages(classifier: Classifier, settings: Train) -> list[Stage]:
    """Return the stages that a recipe asks for."""
    everything = frozenset(layer.name for layer in classifier.backbone_layers)
    first = (
        Stage("head", settings.epochs, settings.learning_rate, frozenset())
        if settings.freeze_backbone
        else Stage("network", settings.epochs, settings.learning_rate, everything)
    )
    if settings.fine_tune.epochs == 0:
        return [first]
    last = classifier.backbone.last_blocks(classifier.backbone_layers, settings.fine_tune.unfreeze)
    return [first, Stage(FINE_TUNE, settings.fine_tune.epochs, settings.fine_tune.learning_rate, last)]


def set_trainable(classifier: Classifier, stage: Stage) -> None:
    """Unfreeze the layers of a stage and freeze the others."""
    for layer in classifier.backbone_layers:
        # A layer that does not train also normalises by its stored statistics: Keras's own rule for batch norm.
        layer.trainable = layer.name in stage.trainable


def freeze_backbone(classifier: Classifier, pixels: Pixels, recipe: Recipe, folder: Path) -> FrozenBackbone | None:
    """Return the backbone of a run that keeps features and trains the head alone; None of any other run.

    Args:
        classifier: of the run.
        pixels: decodes the images.
        recipe: of the run.
        folder: of all features.
    """
    if not recipe.cache.features or classifier.auxiliary:
        return None
    if any(stage.trainable for stage in plan_stages(classifier, recipe.train)):
        return None
    return FrozenBackbone(classifier, pixels, recipe, folder)
