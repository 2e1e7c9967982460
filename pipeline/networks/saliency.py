"""How much each place of the last feature map speaks for a class: Grad-CAM, without a gradient op in the graph.

The class's logit is carried back through the head by hand, layer by layer, up to the pooled or flattened feature map.
Each kind of layer that stands in a head has its rule here; the numbers are those of tf.GradientTape (a test compares).
Behind a global average pool with one dense layer this is CAM: the class's column of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pipeline.errors import RecipeError

_POOL = "GlobalAveragePooling2D"
_FLATTEN = "Flatten"
_LINEAR = (_POOL, _FLATTEN, "Dropout", "Reshape")  # nothing but places change

Rule = Callable[[Any, Any, Any, Any], Any]


def saliency_method(head: Sequence[Any]) -> str:
    """Return what a map of such a head is called in the contract: "cam" or "grad-cam"."""
    kinds = [type(layer).__name__ for layer in head if not _is_linear_activation(layer)]
    dense = [kind for kind in kinds if kind not in _LINEAR]
    return "cam" if _POOL in kinds and len(dense) == 1 else "grad-cam"


def carry_back(head: Sequence[Any], values: Sequence[tuple[Any, Any]], gradient: Any) -> Any:
    """Return how much each channel of the feature map adds to a logit, averaged over the places, but for a factor.

    Args:
        head: Keras layers from the feature map's pool or Flatten to the logits.
        values: input and output of each of them, float32, batch first.
        gradient: of the logits: one-hot rows, float32, shape (batch, classes).

    Returns:
        float32, shape (batch, channels of the feature map).

    Raises:
        RecipeError: if the head has a layer without a rule.
    """
    for layer, (before, after) in zip(reversed(head), reversed(values), strict=True):
        kind = type(layer).__name__
        if kind not in _RULES:
            raise RecipeError(f"saliency: expected one of the layers {', '.join(_RULES)}. Received: {kind}")
        gradient = _RULES[kind](layer, _rows(before), _rows(after), gradient)
    first, (feature_map, _) = head[0], values[0]
    if type(first).__name__ == _FLATTEN:
        height, width, channels = feature_map.shape[1:]
        gradient = tf.reduce_mean(tf.reshape(gradient, [-1, height, width, channels]), axis=[1, 2])
    return gradient


def _rows(value: Any) -> Any:
    """Return (batch, 1, 1, n) and (batch, n) alike as (batch, n): a pool may keep its dimensions."""
    return tf.reshape(value, [-1, value.shape[-1]])


def _unchanged(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    return gradient


def _dense(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    """Rule of Dense, and of a 1x1 convolution of a single place."""
    kernel = tf.reshape(layer.kernel.value, [-1, layer.kernel.shape[-1]])
    return tf.matmul(gradient * _slope(layer.activation, None, after), kernel, transpose_b=True)


def _activation(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    return gradient * _slope(layer.activation, before, after)


def _layer_normalization(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    centred = before - tf.reduce_mean(before, axis=1, keepdims=True)
    deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=1, keepdims=True) + layer.epsilon)
    normal = centred / deviation
    gradient = gradient * layer.gamma.value
    along = tf.reduce_mean(gradient * normal, axis=1, keepdims=True)
    return (gradient - tf.reduce_mean(gradient, axis=1, keepdims=True) - normal * along) / deviation


def _slope(activation: Any, before: Any, after: Any) -> Any:
    """Return an activation's derivative, of the shape of `after`."""
    name = activation.__name__
    if name == "linear":
        return tf.ones_like(after)
    if name == "relu":
        return tf.cast(after > 0, tf.float32)
    if name == "hard_silu" and before is not None:  # x * relu6(x + 3) / 6
        between = tf.cast(tf.abs(before) < 3, tf.float32) * (2 * before + 3) / 6
        return between + tf.cast(before >= 3, tf.float32)
    raise RecipeError(f"saliency: expected the activation linear, relu or hard_silu in a head. Received: {name}")


def _is_linear_activation(layer: Any) -> bool:
    return type(layer).__name__ == "Activation" and layer.activation.__name__ == "linear"


_RULES: dict[str, Rule] = {
    **dict.fromkeys(_LINEAR, _unchanged),
    "Dense": _dense,
    "Conv2D": _dense,
    "Activation": _activation,
    "LayerNormalization": _layer_normalization,
}
