"""`python -m benchmarks.workload.fitted_weights PICTURES BACKBONE LAYER OUT COUNT`: weights that tell pictures apart.

Convolutions are random; batch norm is fitted to COUNT pictures; LAYER, the last batch norm, gives each channel's mean
over a picture unit spread.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from pipeline.networks.backbones import find_backbone
from pipeline.networks.preprocessing import preprocess

_SIDE = 224
_CENTRE = 1.5  # of the channels, before an activation cuts below 0


def main(pictures: str, backbone: str, layer: str, out: str, count: str) -> None:
    """Write the weights."""
    keras.utils.set_random_seed(0)
    paths = sorted(path for path in (Path(pictures) / "train").rglob("*.*") if path.is_file())
    chosen = paths[:: max(1, len(paths) // int(count))]
    images = np.stack(
        [np.asarray(Image.open(path).convert("RGB").resize((_SIDE, _SIDE)), np.float32) for path in chosen]
    )
    found = find_backbone(backbone)
    inputs = preprocess(images, found.preprocessing)
    network = found.build((_SIDE, _SIDE, 3))
    for one in network.layers:
        if isinstance(one, keras.layers.BatchNormalization):
            one.momentum = 0.0
    network(inputs, training=True)
    last = network.get_layer(layer)
    pooled = keras.Model(network.input, last.output).predict(inputs, batch_size=16, verbose=0).mean((1, 2))
    scale = 1 / np.maximum(pooled.std(0), 1e-6)
    last.gamma.assign(np.asarray(last.gamma) * scale)
    last.beta.assign((np.asarray(last.beta) - pooled.mean(0)) * scale + _CENTRE)
    network.save_weights(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
