"""A naive inception module with an auxiliary classifier.

python -m pipeline run DATASET --set model.backbone=docs/lectures/inception_auxiliary.py:build --set model.input_size=32
"""

from typing import Any

import keras
from keras import layers


def inception(x: Any, filters: int) -> Any:
    """Return three convolutions and a pool side by side, all of one size."""
    branches = [layers.Conv2D(filters, size, padding="same", activation="relu")(x) for size in (1, 3, 5)]
    branches.append(layers.MaxPooling2D(3, strides=1, padding="same")(x))
    return layers.Concatenate()(branches)


def classifier(x: Any, num_classes: int, name: str) -> Any:
    """Return probabilities of pooled features."""
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(num_classes, activation="softmax", name=name)(x)


def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build two modules; the first one's classifier helps to train and is not served."""
    images = keras.Input(input_shape)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(images)
    x = layers.MaxPooling2D(2)(x)
    x = inception(x, 16)
    auxiliary = classifier(x, num_classes, "auxiliary")
    x = layers.MaxPooling2D(2)(x)
    x = inception(x, 32)
    return keras.Model(images, [classifier(x, num_classes, "main"), auxiliary])
