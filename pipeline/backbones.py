"""The networks that a classifier can be built on, by Keras's own names, and what each wants of its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import RecipeError

# How a network's weights expect 0-255 RGB pixels to arrive (keras.applications.imagenet_utils.preprocess_input):
# "caffe" is BGR minus the ImageNet mean, "tf" is [-1, 1], "torch" is ImageNet-normalised, "none" is done inside.
Preprocessing = Literal["caffe", "tf", "torch", "none"]


@dataclass(frozen=True, slots=True)
class Backbone:
    """One network without its classification layers.

    Attributes:
        name: as in a recipe.
        preprocessing: what its input must look like.
        input_size: default height and width, pixels.
        min_size: smallest height and width, pixels.
        imagenet: whether Keras offers ImageNet weights for it.
        build: (input shape, Keras `weights` argument) -> Keras model from images to the last feature map.
    """

    name: str
    preprocessing: Preprocessing
    input_size: int
    min_size: int
    imagenet: bool
    build: Callable[[tuple[int, int, int], str | None], Any]


def find_backbone(name: str) -> Backbone:
    """Return a backbone by name.

    Raises:
        RecipeError: if there is none of this name.
    """
    if name not in BACKBONES:
        raise RecipeError(f"model.backbone: expected one of {', '.join(sorted(BACKBONES))}. Received: {name!r}")
    return BACKBONES[name]


def _keras_application(name: str) -> Callable[[tuple[int, int, int], str | None], Any]:
    def build(shape: tuple[int, int, int], weights: str | None) -> Any:
        import keras

        return getattr(keras.applications, name)(include_top=False, weights=weights, input_shape=shape)

    return build


def _small_resnet(shape: tuple[int, int, int], weights: str | None) -> Any:
    """Build a small residual network (He et al. 2015, arXiv:1512.03385), for training from scratch on a CPU."""
    import keras
    from keras import layers

    def convolution(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
        return layers.Conv2D(filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)

    def normalised(x: Any) -> Any:
        # Momentum 0.9: with a few hundred images an epoch, Keras's 0.99 lags behind the weights.
        return layers.BatchNormalization(momentum=0.9)(x)

    def block(x: Any, filters: int) -> Any:
        shortcut = normalised(convolution(x, filters, 1, 2))
        y = layers.ReLU()(normalised(convolution(x, filters, 3, 2)))
        y = normalised(convolution(y, filters))
        return layers.ReLU()(layers.Add()([shortcut, y]))

    images = keras.Input(shape)
    x = layers.ReLU()(normalised(convolution(images, 16, 3, 2)))
    for filters in (24, 48, 96):
        x = block(x, filters)
    return keras.Model(images, x, name="resnet_small")


def _table() -> dict[str, Backbone]:
    keras_applications: list[tuple[str, Preprocessing, int, int]] = [
        ("ResNet50", "caffe", 224, 32),
        ("ResNet101", "caffe", 224, 32),
        ("ResNet152", "caffe", 224, 32),
        ("ResNet50V2", "tf", 224, 32),
        ("VGG16", "caffe", 224, 32),
        ("VGG19", "caffe", 224, 32),
        ("InceptionV3", "tf", 299, 75),
        ("Xception", "tf", 299, 71),
        ("MobileNet", "tf", 224, 32),
        ("MobileNetV2", "tf", 224, 32),
        ("DenseNet121", "torch", 224, 32),
        ("EfficientNetB0", "none", 224, 32),
    ]
    table = {
        name: Backbone(name, preprocessing, size, least, True, _keras_application(name))
        for name, preprocessing, size, least in keras_applications
    }
    table["ResNet"] = Backbone("ResNet", "tf", 80, 32, False, _small_resnet)
    return table


BACKBONES = _table()
