"""Makes Keras's optimizer and loss of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from pipeline.recipe.optimizer_settings import Optimizer
from pipeline.recipe.training_settings import Train

_CLASSES = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}
_CROSSENTROPY = ("categorical_crossentropy", "sparse_categorical_crossentropy")


def make_optimizer(settings: Optimizer, learning_rate: float) -> Any:
    """Return a new optimizer with a recipe's settings."""
    return _CLASSES[settings.name](learning_rate, **settings.model_dump(exclude={"name"}, exclude_none=True))


def make_loss(settings: Train, num_classes: int) -> str | Callable[[Any, Any], Any]:
    """Return a loss of class indices and probabilities, for Keras's `compile`."""
    smoothing = settings.label_smoothing
    if settings.loss in _CROSSENTROPY and smoothing == 0:
        return "sparse_categorical_crossentropy"  # Keras computes it from the logits
    name = "categorical_crossentropy" if settings.loss in _CROSSENTROPY else settings.loss
    compare = getattr(keras.losses, name)

    def loss(targets: Any, probabilities: Any) -> Any:
        spread = keras.ops.one_hot(keras.ops.reshape(targets, [-1]), num_classes)
        return compare(spread * (1 - smoothing) + smoothing / num_classes, probabilities)

    return loss
