"""pipeline/networks/saliency.py: a head carried back by hand gives tf.GradientTape's numbers, whatever stands in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from pipeline.errors import RecipeError
from pipeline.networks.saliency import carry_back, saliency_method

NUM_CLASSES = 5
SHAPE = (3, 4, 6)  # rows, columns, channels


def gap(x: Any) -> Any:
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return layers.Activation("linear")(layers.Dense(NUM_CLASSES)(x))


def flatten_dense(x: Any) -> Any:
    for units in (16, 8):
        x = layers.Dense(units, activation="relu")(layers.Flatten()(x) if len(x.shape) > 2 else x)
    return layers.Dense(NUM_CLASSES)(x)


def mobilenet(x: Any) -> Any:
    x = layers.Conv2D(NUM_CLASSES, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Activation(None)(layers.Reshape((NUM_CLASSES,))(x))


def mobilenet_v3(x: Any) -> Any:
    x = layers.Conv2D(16, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Conv2D(NUM_CLASSES, 1)(layers.Dropout(0.2)(layers.Activation("hard_swish")(x)))
    return layers.Activation(None)(layers.Flatten()(x))


def convnext(x: Any) -> Any:
    x = layers.LayerNormalization(epsilon=1e-6)(layers.GlobalAveragePooling2D()(x))
    return layers.Dense(NUM_CLASSES)(x)


HEADS = {"gap": gap, "flatten-dense": flatten_dense, "MobileNet": mobilenet, "MobileNetV3": mobilenet_v3}
HEADS["ConvNeXt"] = convnext


@pytest.mark.parametrize("head", list(HEADS.values()), ids=list(HEADS))
def test_head_carried_back_is_its_gradient(head: Callable[[Any], Any]) -> None:
    """For every class, on feature maps that reach all parts of the activations."""
    keras.utils.set_random_seed(3)
    features = keras.Input(SHAPE)
    model = keras.Model(features, head(features))
    for variable in model.trainable_variables:  # gamma and beta too, which start as ones and zeros
        variable.assign(tf.random.normal(variable.shape, stddev=2.0))
    head_layers = model.layers[1:]
    between = keras.Model(features, [t for layer in head_layers for t in (layer.input, layer.output)])
    maps = tf.random.normal((NUM_CLASSES, *SHAPE), stddev=3.0)
    classes = tf.eye(NUM_CLASSES)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = tf.reduce_sum(model(maps, training=False) * classes)
    expected = tf.reduce_mean(tape.gradient(score, maps), axis=[1, 2]).numpy()

    values = between(maps, training=False)
    actual = carry_back(head_layers, list(zip(values[::2], values[1::2], strict=True)), classes).numpy()

    # A pool's own factor is left out: maps are divided by their maximum.
    expected *= SHAPE[0] * SHAPE[1] if "Pooling" in type(head_layers[0]).__name__ else 1
    assert (NUM_CLASSES, SHAPE[2]) == actual.shape
    assert np.abs(expected).max() > 0.1
    assert np.abs(expected - actual).max() < 1e-4 * np.abs(expected).max()


def test_only_one_dense_layer_behind_a_pool_is_called_cam() -> None:
    """The contract names the method by what stands in the head."""
    features = keras.Input(SHAPE)
    methods = {name: saliency_method(keras.Model(features, head(features)).layers[1:]) for name, head in HEADS.items()}

    assert {"gap": "cam", "MobileNet": "cam"} == {name: method for name, method in methods.items() if method == "cam"}
    assert {"cam", "grad-cam"} == set(methods.values())


@pytest.mark.parametrize(
    ("layer", "words"),
    [(layers.GlobalMaxPooling2D(), "Received: GlobalMaxPooling2D"), (layers.Activation("tanh"), "Received: tanh")],
    ids=["layer", "activation"],
)
def test_head_without_a_rule_is_refused(layer: Any, words: str) -> None:
    """Better no version than a map that means nothing."""
    value = tf.ones((2, 4))

    with pytest.raises(RecipeError, match=words):
        carry_back([layer], [(value, value)], value)
