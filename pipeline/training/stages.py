"""The rounds of training that a recipe asks for, and which layers train in each."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from pipeline.networks.network import Classifier
from pipeline.recipe.training_settings import Train


@dataclass(frozen=True)
class Stage:
    """One round of training.

    Attributes:
        name: "head", "network" or "fine-tune".
        epochs: at most this many.
        learning_rate: at the start, or after the warm-up.
        trainable: the backbone layers that train; the head always does.
    """

    name: str
    epochs: int
    learning_rate: float
    trainable: frozenset[str]


def plan_stages(classifier: Classifier, settings: Train) -> list[Stage]:
    """Return the rounds that a recipe asks for."""
    everything = frozenset(layer.name for layer in classifier.backbone_layers)
    first = (
        Stage("head", settings.epochs, settings.learning_rate, frozenset())
        if settings.freeze_backbone
        else Stage("network", settings.epochs, settings.learning_rate, everything)
    )
    if settings.fine_tune.epochs == 0:
        return [first]
    last = last_blocks(classifier, settings.fine_tune.unfreeze)
    return [first, Stage("fine-tune", settings.fine_tune.epochs, settings.fine_tune.learning_rate, last)]


def last_blocks(classifier: Classifier, unfreeze: int | str) -> frozenset[str]:
    """Return the last `unfreeze` convolutions and all after the first of them, without batch norm layers."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    layers = classifier.backbone_layers
    convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, kinds)]
    start = 0 if unfreeze == "all" else convolutions[-min(int(unfreeze), len(convolutions))]
    return frozenset(layer.name for layer in layers[start:] if not isinstance(layer, keras.layers.BatchNormalization))


def set_trainable(classifier: Classifier, stage: Stage) -> None:
    """Let the stage's layers train and freeze the others."""
    for layer in classifier.backbone_layers:
        # A layer that does not train also normalises by its stored statistics: Keras's own rule for batch norm.
        layer.trainable = layer.name in stage.trainable
