"""`python -m benchmarks.workload.trained_weights BACKBONE SIDE IMAGES EPOCHS OUT`: weights of a trained backbone.

It is trained whole on the first IMAGES training images of Fashion-MNIST.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from benchmarks.training.sets import FASHION, read_idx
from pipeline.networks.backbones import find_backbone

_BATCH = 64
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.01
_MOMENTUM = 0.95  # of batch norm: Keras's 0.99 and 0.999 are for longer trainings


def main(name: str, side: str, images: str, epochs: str, out: str) -> None:
    """Train, and write the weights."""
    keras.utils.set_random_seed(0)
    network = find_backbone(name).build((int(side), int(side), 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = _MOMENTUM
    model, steps = _with_head(network), int(epochs) * (int(images) // _BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=_LEARNING_RATE, warmup_steps=steps // 20)
    model.compile(keras.optimizers.AdamW(rate, _WEIGHT_DECAY), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(_batches(name, int(side), int(images)), epochs=int(epochs), verbose=2)
    network.save_weights(out)


def _with_head(network: Any) -> Any:
    pooled = keras.layers.GlobalAveragePooling2D()(network.output)
    return keras.Model(network.input, keras.layers.Dense(10)(pooled))


def _batches(name: str, side: int, count: int) -> Any:
    """Return shuffled batches of images, half of them mirrored, as the backbone takes them."""
    images = _resize(read_idx(FASHION / "train-images-idx3-ubyte.gz")[:count], side)
    targets = read_idx(FASHION / "train-labels-idx1-ubyte.gz")[:count]
    backbone = find_backbone(name)

    def prepare(batch: Any, classes: Any) -> Any:
        mirrored = tf.image.random_flip_left_right(tf.repeat(batch[..., None], 3, axis=3))
        return backbone.preprocess(tf.cast(mirrored, tf.float32)), classes

    numbers = tf.data.Dataset.range(count).shuffle(count, seed=0).batch(_BATCH, drop_remainder=True)
    gathered = numbers.map(lambda chosen: (tf.gather(images, chosen), tf.gather(targets, chosen)))
    return gathered.map(prepare).prefetch(2)


def _resize(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    resized = [Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in resized])


if __name__ == "__main__":
    main(*sys.argv[1:])
