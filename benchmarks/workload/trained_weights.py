"""`python -m benchmarks.workload.trained_weights PICTURES BACKBONE SIDE EPOCHS OUT`: weights of a trained backbone.

It is trained whole on PICTURES/train, a folder a class. The running means of batch norm lag behind so
short a training; at its end they are those of some pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.networks.backbones import find_backbone
from pipeline.networks.preprocessing import preprocess

_FITTED = 48  # pictures that the batch norm is fitted to
_BATCH = 24
_LEARNING_RATE = 1e-3


def main(pictures: str, name: str, side: str, epochs: str, out: str) -> None:
    """Train, and write the weights."""
    keras.utils.set_random_seed(0)
    paths = sorted(path for path in (Path(pictures) / "train").rglob("*.*") if path.is_file())
    classes = sorted({path.parent.name for path in paths})
    targets = np.array([classes.index(path.parent.name) for path in paths])
    backbone = find_backbone(name)
    images = _read(paths, int(side), backbone.preprocessing)
    network = backbone.build((int(side), int(side), 3))
    _train(network, images, targets, len(classes), int(epochs))
    _fit_batch_norm(network, images[:: len(paths) // _FITTED])
    network.save_weights(out)


def _read(paths: list[Path], side: int, preprocessing: Any) -> NDArray[np.float32]:
    images = [np.asarray(Image.open(path).convert("RGB").resize((side, side)), np.float32) for path in paths]
    return np.asarray(preprocess(np.stack(images), preprocessing))


def _train(network: Any, images: NDArray[np.float32], targets: NDArray[np.int64], classes: int, epochs: int) -> None:
    pooled = keras.layers.GlobalAveragePooling2D()(network.output)
    model = keras.Model(network.input, keras.layers.Dense(classes)(pooled))
    steps = epochs * -(-len(images) // _BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(images, targets, batch_size=_BATCH, epochs=epochs, verbose=2)


def _fit_batch_norm(network: Any, images: NDArray[np.float32]) -> None:
    """Give each batch norm the statistics of these images."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(images, training=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
