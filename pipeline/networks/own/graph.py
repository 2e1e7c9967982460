"""Takes a user's Keras model apart: logits, auxiliary outputs, the last feature map, and the layers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import RecipeError
from pipeline.networks.own.keras_message import keras_message, spell_shape
from pipeline.networks.saliency import has_rule

PROBABILITIES = "probabilities"
_BOUNDED = ("sigmoid", "tanh", "relu", "relu6", "softplus", "softsign", "hard_sigmoid", "hardsigmoid", "elu", "exp")
_SUM = 1e-3  # by which probabilities of one image may miss 1


@dataclass(frozen=True)
class Parts:
    """A classifier's graph.

    Attributes:
        model: from images to probabilities; its last layer is the softmax.
        backbone_layers: those up to the features, in order.
        features: symbolic: the last feature map, or the numbers before the layer of classes.
        auxiliary: symbolic probabilities of other outputs, which training alone uses.
        explained: whether a saliency map can be had: behind a feature map of convolutions, each layer has a rule.
    """

    model: Any
    backbone_layers: list[Any]
    features: Any
    auxiliary: tuple[Any, ...]
    explained: bool


def take_apart(network: Any, shape: tuple[int, int, int], num_classes: int, where: str) -> Parts:
    """Take a Keras model apart; its first output is the classifier's, others are auxiliary.

    Raises:
        RecipeError: if it is no Keras model of one input of `shape`, or an output is not one number a class.
    """
    import keras

    if not isinstance(network, keras.Model):
        raise RecipeError(f"{where}: expected a keras.Model. Received: {type(network).__name__}")
    images, outputs = _symbolic(network, shape, where)
    for i, output in enumerate(outputs):
        which = "its output" if len(outputs) == 1 else f"output {i + 1} of {len(outputs)}"
        if tuple(output.shape[1:]) != (num_classes,):
            raise RecipeError(
                f"{where}: {which}: expected shape (batch, {num_classes}), one number for each class of the set. "
                f"Received: {spell_shape(output.shape)}"
            )
    logits = [_logits(network, images, output, where) for output in outputs]
    taken = {layer.name for layer in network.layers}
    name = PROBABILITIES
    while name in taken:
        name = f"served_{name}"
    model = keras.Model(images, _softmax(logits[0], name), name="classifier")
    _check_constant(model, where)
    auxiliary = tuple(_softmax(value, f"auxiliary_{i}_{name}") for i, value in enumerate(logits[1:], 1))
    return _divide(model, logits[0], auxiliary)


def _symbolic(network: Any, shape: tuple[int, int, int], where: str) -> tuple[Any, list[Any]]:
    """Return a model's symbolic input and outputs; a subclassed one becomes a layer of a new graph."""
    import keras

    try:
        inputs, outputs = list(network.inputs), list(network.outputs)
    except (AttributeError, ValueError, TypeError):  # a subclass, or a Sequential without an input
        inputs = outputs = []
    if not inputs or not outputs:
        images = keras.Input(shape)
        answer = network(images)
        _check_order(answer, where)
        return images, keras.tree.flatten(answer)
    _check_order(getattr(network, "output", outputs), where)
    fits = len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[0] is None
    fits = fits and all(size in (None, wanted) for size, wanted in zip(inputs[0].shape[1:], shape, strict=True))
    if not fits:
        received = ", ".join(spell_shape(tensor.shape) for tensor in inputs)
        raise RecipeError(
            f"{where}: expected one input of shape {spell_shape((None, *shape))}, which build gets as input_shape. "
            f"Received: {received}"
        )
    return inputs[0], outputs


def _check_order(outputs: Any, where: str) -> None:
    """Refuse several outputs by name: which of them is served would depend on how Keras sorts names."""
    if isinstance(outputs, Mapping) and len(outputs) > 1:
        raise RecipeError(
            f"{where}: expected one output, or a list whose first is served and whose others train it. "
            f"Received: a dict of {', '.join(map(str, outputs))}; return keras.Model(images, [main, auxiliary])"
        )


def _logits(network: Any, images: Any, output: Any, where: str) -> Any:
    """Return what an output is the softmax of; of other probabilities, their logarithm."""
    import keras
    from keras import layers, ops

    operation = output._keras_history.operation
    activation = getattr(getattr(operation, "activation", None), "__name__", type(operation).__name__.lower())
    before = [node for node in operation._inbound_nodes if any(tensor is output for tensor in node.output_tensors)]
    if isinstance(operation, layers.Softmax) or type(operation).__name__ == "Softmax":
        return before[0].input_tensors[0]
    if isinstance(operation, layers.Activation) and activation == "softmax":
        return before[0].input_tensors[0]
    if activation == "softmax" and isinstance(operation, layers.Dense | layers.Conv2D):
        operation.activation = keras.activations.linear  # the same symbolic tensor now stands for logits
        return output
    if activation in _BOUNDED:
        raise RecipeError(
            f"{where}: layer {operation.name}: expected the activation softmax, or none, in the layer of classes. "
            f"Received: {activation}"
        )
    answers = np.asarray(keras.Model(images, output)(_some_pixels(images), training=False))
    if answers.min() >= 0 and np.allclose(answers.sum(axis=-1), 1, atol=_SUM):
        return ops.log(ops.maximum(output, 1e-7))
    return output


def _some_pixels(images: Any) -> Any:
    height, width, channels = (size or 64 for size in images.shape[1:])
    return np.random.default_rng(0).uniform(-1, 1, (2, height, width, channels)).astype(np.float32)


def _softmax(logits: Any, name: str) -> Any:
    from keras import layers

    return layers.Activation("softmax", dtype="float32", name=name)(logits)


def _divide(model: Any, logits: Any, auxiliary: tuple[Any, ...]) -> Parts:
    """Divide a classifier at the last feature map that all of its logits come from."""
    from keras import layers

    producers = {
        id(tensor): node for nodes in model._nodes_by_depth.values() for node in nodes for tensor in node.output_tensors
    }
    head: list[Any] = []
    tensor, ends = logits, logits
    while len(producers[id(tensor)].input_tensors) == 1:
        if len(tensor.shape) == 4 and tensor.shape[1] * tensor.shape[2] > 1:
            break
        head.insert(0, producers[id(tensor)].operation)
        if len(head) == 1 and isinstance(head[0], layers.Dense):
            ends = producers[id(tensor)].input_tensors[0]
        tensor = producers[id(tensor)].input_tensors[0]
    before = [layer for layer in model.layers[:-1] if not any(layer is behind for behind in head)]
    if len(tensor.shape) == 4 and any(_convolves(layer) for layer in before):
        return Parts(model, before, tensor, auxiliary, all(has_rule(layer) for layer in head))
    last = head[-1:] if ends is not logits else []
    before = [layer for layer in model.layers[:-1] if not any(layer is behind for behind in last)]
    return Parts(model, before, ends, auxiliary, False)


def _check_constant(model: Any, where: str) -> None:
    """Refuse a network whose variables change when it answers: a version has them as constants."""
    import tensorflow as tf

    from pipeline.networks.saved_model import freeze

    images = tf.TensorSpec([None, *model.input.shape[1:]], model.input.dtype)
    try:
        freeze(lambda pixels: model(pixels, training=False), [images])
    except Exception as err:  # TensorFlow raises ValueError, TypeError, InvalidArgumentError and more
        raise RecipeError(
            f"{where}: expected layers whose weights stay as they are outside of training: they are exported as "
            f"constants. Received: {keras_message(err)}"
        ) from err


def _convolves(layer: Any) -> bool:
    from keras import layers

    kinds = layers.Conv2D | layers.SeparableConv2D | layers.DepthwiseConv2D | layers.Conv2DTranspose
    inner = [*getattr(layer, "layers", []), *filter(None, [getattr(layer, "layer", None)])]  # of models, of wrappers
    return isinstance(layer, kinds) or any(_convolves(one) for one in inner)
