"""A Keras model called as a graph: the same numbers, and memory for a few layers of one batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from pipeline.networks.graph_calls import as_graph
from tests.helpers.gateway_process import probe

PEAK = """
import json, re
from pathlib import Path
import keras, numpy as np
from keras import layers
from pipeline.networks.graph_calls import as_graph

# Not getrusage's: that begins with the peak of the process that started this one.
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
images = keras.Input((128, 128, 16))
x = images
for _ in range({depth}):
    x = layers.Activation("relu")(x)
model = keras.Model(images, layers.GlobalAveragePooling2D()(x))
batch = np.ones((8, 128, 128, 16), np.float32)
call = {call}
call(batch[:1])
before = peak()
call(batch)
first = peak()
for _ in range(8):
    call(batch)
print(json.dumps({{"batch": batch.nbytes, "first": first - before, "later": peak() - first}}))
"""


@pytest.mark.parametrize("batch", [1, 5, 8])
def test_a_graph_computes_what_the_model_does(batch: int) -> None:
    keras.utils.set_random_seed(1)
    images = keras.Input((12, 10, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(images)
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
    model = keras.Model(images, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    run = as_graph(model)
    values = np.random.default_rng(batch).normal(size=(batch, 12, 10, 3)).astype(np.float32)
    for _ in range(2):
        received = run(values)
        assert received.dtype == np.float32
        np.testing.assert_allclose(received, model(values, training=False), atol=1e-6)
        model.set_weights([weights + 0.1 for weights in model.get_weights()])


def test_memory_grows_neither_with_the_layers_nor_with_the_batches() -> None:
    """Eager calls hold the output of every layer: 60 times the batch, where a graph holds a few."""
    found = probe(PEAK.format(depth=60, call="as_graph(model)"))
    assert found["first"] < 15 * found["batch"]
    assert found["later"] < 8 * found["batch"]
    eager = probe(PEAK.format(depth=60, call="lambda values: model(values, training=False)"))
    assert eager["first"] > 30 * eager["batch"]
