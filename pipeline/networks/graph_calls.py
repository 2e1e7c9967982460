"""Calls Keras models as graphs, which free the output of a layer after its last use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def as_graph(model: Any) -> Callable[[Any], NDArray[np.float32]]:
    """Return a function from a model's input to its output, float32; it is traced at its first call, for any batch.

    Called without a graph, a functional model holds the outputs of all layers until it returns: 150 MB for each image
    of 224 pixels through ResNet50.

    Args:
        model: with one input and one output; variables that change later count at the next call.
    """
    spec = tf.TensorSpec(model.input.shape, tf.float32)
    run = tf.function(lambda values: model(values, training=False), input_signature=[spec], autograph=False)
    return lambda values: np.asarray(run(values), np.float32)
