"""Networks that are trained from scratch: LeNet, AlexNet, GoogLeNet, a small ResNet, two convolutions for MNIST.

Each function builds everything up to the last feature map; the dense layers that the papers put behind it are the
head's (`Backbone.hidden_units`). Where a paper normalised by local response, or not at all, and training from scratch
on few images needs it, batch normalisation stands in; ReLU stands for tanh.
"""

from __future__ import annotations

from typing import Any

# Keras's 0.99 lags behind the weights when an epoch has a few hundred images.
_MOMENTUM = 0.9

# Filters of one inception module: 1x1, before 3x3, 3x3, before 5x5, 5x5, after the pool (Szegedy et al., table 1).
_INCEPTION = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def build_lenet(shape: tuple[int, int, int]) -> Any:
    """Build LeNet-5's two convolutions (LeCun et al. 1998); 28x28 images are padded as its 32x32 were."""
    import keras
    from keras import layers

    images = keras.Input(shape)
    x = layers.Conv2D(6, 5, padding="same", activation="relu")(images)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(16, 5, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    return keras.Model(images, x, name="lenet")


def build_mnist_cnn(shape: tuple[int, int, int]) -> Any:
    """Build the two 3x3 convolutions that Keras's tutorials classify handwritten digits with."""
    import keras
    from keras import layers

    images = keras.Input(shape)
    x = layers.Conv2D(32, 3, activation="relu")(images)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    return keras.Model(images, x, name="mnist_cnn")


def build_alexnet(shape: tuple[int, int, int]) -> Any:
    """Build AlexNet's five convolutions (Krizhevsky et al. 2012), on one device."""
    import keras
    from keras import layers

    images = keras.Input(shape)
    x = _convolution(images, 96, 11, strides=4, padding="valid")
    x = layers.MaxPooling2D(3, 2)(x)
    x = _convolution(x, 256, 5)
    x = layers.MaxPooling2D(3, 2)(x)
    for filters in (384, 384, 256):
        x = _convolution(x, filters, 3)
    x = layers.MaxPooling2D(3, 2)(x)
    return keras.Model(images, x, name="alexnet")


def build_googlenet(shape: tuple[int, int, int]) -> Any:
    """Build GoogLeNet's nine inception modules (Szegedy et al. 2014, arXiv:1409.4842), without auxiliary classifiers.

    Every 3x3 and 5x5 convolution stands behind a 1x1 bottleneck, batch normalised as in arXiv:1502.03167.
    """
    import keras
    from keras import layers

    images = keras.Input(shape)
    x = _convolution(images, 64, 7, strides=2)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _convolution(x, 64, 1)
    x = _convolution(x, 192, 3)
    for group in _INCEPTION:
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        for filters in group:
            x = _inception(x, filters)
    return keras.Model(images, x, name="googlenet")


def build_small_resnet(shape: tuple[int, int, int]) -> Any:
    """Build a small residual network (He et al. 2015, arXiv:1512.03385), for training from scratch on a CPU."""
    import keras
    from keras import layers

    def block(x: Any, filters: int) -> Any:
        shortcut = _normalised(x, filters, 1, strides=2)
        y = layers.ReLU()(_normalised(x, filters, 3, strides=2))
        y = _normalised(y, filters, 3)
        return layers.ReLU()(layers.Add()([shortcut, y]))

    images = keras.Input(shape)
    x = _convolution(images, 16, 3, strides=2)
    for filters in (24, 48, 96):
        x = block(x, filters)
    return keras.Model(images, x, name="resnet_small")


def _inception(x: Any, filters: tuple[int, ...]) -> Any:
    from keras import layers

    one, before_three, three, before_five, five, pooled = filters
    branches = [
        _convolution(x, one, 1),
        _convolution(_convolution(x, before_three, 1), three, 3),
        _convolution(_convolution(x, before_five, 1), five, 5),
        _convolution(layers.MaxPooling2D(3, 1, padding="same")(x), pooled, 1),
    ]
    return layers.Concatenate()(branches)


def _convolution(x: Any, filters: int, size: int, *, strides: int = 1, padding: str = "same") -> Any:
    from keras import layers

    return layers.ReLU()(_normalised(x, filters, size, strides=strides, padding=padding))


def _normalised(x: Any, filters: int, size: int, *, strides: int = 1, padding: str = "same") -> Any:
    from keras import layers

    x = layers.Conv2D(filters, size, strides, padding=padding, use_bias=False, kernel_initializer="he_normal")(x)
    return layers.BatchNormalization(momentum=_MOMENTUM)(x)
