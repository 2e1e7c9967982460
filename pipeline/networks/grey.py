"""Grey images for networks that take three channels: the grey channel is repeated inside the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.networks.backbone import Backbone, Shape
from pipeline.networks.preprocessing import check_channels, preprocessing_steps
from pipeline.recipe.preprocessing_settings import Preprocessing


def take_grey(backbone: Backbone) -> Backbone:
    """Return a backbone of three channels as one that takes grey pixels of 0-255.

    Its preprocessing, whose numbers differ from channel to channel, becomes a layer after the repetition.

    Raises:
        RecipeError: if the preprocessing is not for three channels.
    """
    check_channels(backbone.preprocessing, 3)
    build_on = backbone.build_on
    if build_on is None:
        raise ValueError(f"{backbone.name} cannot be built on a tensor")

    def build(shape: Shape) -> Any:
        import keras
        from keras import layers

        images = keras.Input(shape)
        x = layers.Concatenate(name="grey_to_rgb")([images, images, images])
        scale, offset = _per_channel(backbone.preprocessing)
        if scale != [1.0] * 3 or offset != [0.0] * 3:
            x = layers.Rescaling(scale, offset, name="grey_rescaling")(x)
        network = build_on((*shape[:2], 3), x)
        return keras.Model(images, network.output, name=network.name)  # Keras's own takes a list of one input

    return replace(backbone, preprocessing="none", build=build)


def _per_channel(preprocessing: Preprocessing) -> tuple[list[float], list[float]]:
    """Return a preprocessing of equal channels as factors and summands, in the network's order of channels."""
    scale, offset = np.ones(3), np.zeros(3)
    for operation, operand in preprocessing_steps(preprocessing):
        if operation == "Mul":
            scale, offset = scale * operand, offset * operand
        elif operation == "RealDiv":
            scale, offset = scale / operand, offset / operand
        elif operation == "AddV2":
            offset = offset + operand
        elif operation == "Sub":
            offset = offset - operand
    return scale.tolist(), offset.tolist()
