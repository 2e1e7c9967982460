"""Computes Grad-CAM maps without a gradient op in the graph.

The class's logit is carried back through the head by hand, layer by layer, up to the pooled or flattened feature map.
Each kind of layer that stands in a head has its rule here; the numbers are those of tf.GradientTape (a test compares).
Behind a global average pool with one dense layer this is CAM: the class's column of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from keras import layers

from pipeline.errors import RecipeError
from pipeline.networks.backbone import Rule

Rules = Mapping[type, Rule]
_NO_RULES: Rules = {}


def saliency_method(head: Sequence[Any], rules: Rules = _NO_RULES) -> str:
    """Return the contract's name for a map of such a head: "cam" or "grad-cam".

    Args:
        head: Keras layers from the feature map's pool or Flatten to the logits.
        rules: the backbone's own, beside those of this module.
    """
    pooled = any(isinstance(layer, layers.GlobalAveragePooling2D) for layer in head)
    changing = [layer for layer in head if not _is_linear_activation(layer) and _rule_of(layer, rules) is not unchanged]
    return "cam" if pooled and len(changing) == 1 else "grad-cam"


def carry_back(head: Sequence[Any], values: Sequence[tuple[Any, Any]], gradient: Any, rules: Rules = _NO_RULES) -> Any:
    """Return how much each channel of the feature map adds to a logit, averaged over the places, but for a factor.

    Args:
        head: Keras layers from the feature map's pool or Flatten to the logits.
        values: input and output of each of them, float32, batch first.
        gradient: of the logits: one-hot rows, float32, shape (batch, classes).
        rules: the backbone's own, beside those of this module.

    Returns:
        float32, shape (batch, channels of the feature map).

    Raises:
        RecipeError: if the head has a layer without a rule.
    """
    for layer, (before, after) in zip(reversed(head), reversed(values), strict=True):
        rule = _rule_of(layer, rules)
        if rule is None:
            known = ", ".join(kind.__name__ for kind in _RULES)
            raise RecipeError(f"saliency: expected one of the layers {known}. Received: {type(layer).__name__}")
        gradient = rule(layer, _rows(before), _rows(after), gradient)
    first, (feature_map, _) = head[0], values[0]
    if isinstance(first, layers.Flatten):
        height, width, channels = feature_map.shape[1:]
        gradient = tf.reduce_mean(tf.reshape(gradient, [-1, height, width, channels]), axis=[1, 2])
    return gradient


def has_rule(layer: Any, rules: Rules = _NO_RULES) -> bool:
    """Whether the gradient can be carried back through a layer of a head."""
    if isinstance(layer, layers.Conv2D) and (layer.kernel_size != (1, 1) or layer.groups != 1):
        return False
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    known = activation in (_ACTIVATIONS if isinstance(layer, layers.Activation) else (None, *_SLOPES))
    return _rule_of(layer, rules) is not None and known


def _rule_of(layer: Any, rules: Rules) -> Rule | None:
    return next((rule for kind, rule in (*rules.items(), *_RULES.items()) if isinstance(layer, kind)), None)


def _rows(value: Any) -> Any:
    """Return (batch, 1, 1, n) and (batch, n) alike as (batch, n): a pool may keep its dimensions."""
    return tf.reshape(value, [-1, value.shape[-1]])


def unchanged(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    """Return the gradient as it is: the rule of layers that only move values."""
    return gradient


def _dense(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    """Rule of Dense, and of a 1x1 convolution of a single place."""
    kernel = tf.reshape(layer.kernel.value, [-1, layer.kernel.shape[-1]])
    return tf.matmul(gradient * _slope(layer.activation, None, after), kernel, transpose_b=True)


def _activation(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    return gradient * _slope(layer.activation, before, after)


def _layer_normalization(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    centred = before - tf.reduce_mean(before, axis=[1], keepdims=True)
    deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=[1], keepdims=True) + layer.epsilon)
    normal = centred / deviation
    gradient = gradient * layer.gamma.value
    along = tf.reduce_mean(gradient * normal, axis=[1], keepdims=True)
    return (gradient - tf.reduce_mean(gradient, axis=[1], keepdims=True) - normal * along) / deviation


def _slope(activation: Any, before: Any, after: Any) -> Any:
    """Return an activation's derivative, of the shape of `after`."""
    name = activation.__name__
    if name in _SLOPES and (before is None or name in _ACTIVATIONS):
        return _SLOPES[name](after)
    if name == "hard_silu" and before is not None:  # x * relu6(x + 3) / 6
        between = tf.cast(tf.abs(before) < 3, tf.float32) * (2 * before + 3) / 6
        return between + tf.cast(before >= 3, tf.float32)
    raise RecipeError(
        f"saliency: expected the activation {', '.join(_SLOPES)} or hard_silu in a head. Received: {name}"
    )


def _is_linear_activation(layer: Any) -> bool:
    return isinstance(layer, layers.Activation) and layer.activation.__name__ == "linear"


def _batch_normalization(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    factor = tf.math.rsqrt(layer.moving_variance.value + layer.epsilon)
    return gradient * (factor * layer.gamma.value if layer.scale else factor)


_SLOPES: dict[str, Callable[[Any], Any]] = {  # from an activation's output
    "linear": lambda after: 1.0,
    "relu": lambda after: tf.cast(after > 0, tf.float32),
    "tanh": lambda after: 1 - tf.square(after),
    "sigmoid": lambda after: after * (1 - after),
}
_ACTIVATIONS = ("linear", "relu", "hard_silu")  # of layers that are an activation alone
_UNCHANGED = (
    layers.GlobalAveragePooling2D,
    layers.Flatten,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Reshape,
)
_RULES: dict[type, Rule] = {
    **dict.fromkeys(_UNCHANGED, unchanged),
    layers.BatchNormalization: _batch_normalization,
    layers.Dense: _dense,
    layers.Conv2D: _dense,
    layers.Activation: _activation,
    layers.LayerNormalization: _layer_normalization,
}
