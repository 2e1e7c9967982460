"""Makes Keras's optimizer and loss of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

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


def compile_arguments(settings: Train, num_classes: int, *, outputs: int) -> dict[str, Any]:
    """Return loss and metrics for Keras's `compile`.

    Args:
        settings: of the recipe.
        num_classes: how many there are.
        outputs: of the model; those after the first are auxiliary.
    """
    loss = make_loss(settings, num_classes)
    if outputs == 1:
        return {"loss": loss, "metrics": ["accuracy"]}
    return {
        "loss": [loss] * outputs,
        "loss_weights": [1.0] + [settings.auxiliary_weight] * (outputs - 1),
        "metrics": [["accuracy"], *([] for _ in range(outputs - 1))],
    }


def create_variables(model: Any, targets: Any) -> None:
    """Create the variables of a compiled model's optimizer, loss and metrics.

    TensorFlow traces a function twice that creates variables when it is first called; Keras's training step, traced
    within another function, is such. Tracing is most of what a stage of few images costs.

    Args:
        model: compiled, not yet fitted.
        targets: the specification of a batch of targets, one for each output.
    """
    model.optimizer.build(model.trainable_variables)
    first = tf.nest.map_structure(lambda spec: tf.zeros((1, *spec.shape[1:]), spec.dtype), targets)
    outputs = [tf.ones((1, *output.shape[1:])) for output in model.outputs]
    predictions = outputs if len(outputs) > 1 else outputs[0]
    model.compute_loss(y=first, y_pred=predictions)
    model.compute_metrics(None, first, predictions)
    model.reset_metrics()


def for_outputs(dataset: Any, outputs: int, class_weights: Mapping[int, float] | None = None) -> Any:
    """Return a dataset whose targets are repeated for each output; Keras weighs classes of a single output only.

    Args:
        dataset: of (inputs, class indices), a tf.data.Dataset.
        outputs: of the model.
        class_weights: by class index; None for equal ones.
    """
    if outputs == 1:
        return dataset

    def repeat(inputs: Any, targets: Any) -> tuple[Any, ...]:
        if class_weights is None:
            return inputs, (targets,) * outputs
        weights = tf.gather(by_index, targets)
        return inputs, (targets,) * outputs, (weights,) * outputs

    by_index = tf.constant([(class_weights or {}).get(i, 0.0) for i in range(max(class_weights or {0: 0}) + 1)])
    return dataset.map(repeat)


def of_first_output(logs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return Keras's figures with those of the first output as loss and accuracy."""
    if len(model.outputs) == 1:
        return dict(logs)
    name = model.output_names[0]
    keys = [f"{side}{key}" for side in ("", "val_") for key in ("loss", "accuracy")]
    ours = {key: key.replace(key.removeprefix("val_"), f"{name}_{key.removeprefix('val_')}") for key in keys}
    return {**logs, **{key: logs[other] for key, other in ours.items() if other in logs}}
