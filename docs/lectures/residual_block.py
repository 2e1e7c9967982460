"""Residual blocks by hand: a shortcut around two convolutions.

python -m pipeline run DATASET --set model.backbone=docs/lectures/residual_block.py:build --set model.input_size=32
"""

from typing import Any

import keras
from keras import layers


def residual_block(x: Any, filters: int, strides: int = 1) -> Any:
    """Return x plus what two convolutions make of it; a 1x1 convolution fits the shortcut where the shape changes."""
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides=strides)(x)
    y = layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
    y = layers.BatchNormalization(momentum=0.9)(y)
    y = layers.ReLU()(y)
    y = layers.Conv2D(filters, 3, padding="same")(y)
    y = layers.BatchNormalization(momentum=0.9)(y)
    return layers.ReLU()(layers.Add()([shortcut, y]))


def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build three blocks on one convolution."""
    images = keras.Input(input_shape)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(images)
    x = residual_block(x, 16)
    x = residual_block(x, 32, strides=2)
    x = residual_block(x, 64, strides=2)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(num_classes)(x))
