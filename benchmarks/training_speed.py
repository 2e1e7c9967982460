"""Steps of Keras training: float32, `mixed_bfloat16` and `jit_compile`, in turns.

Each network is trained whole, on noise: the speed of a step does not depend on the images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.serving import say
from pipeline.networks.backbones import find_backbone
from pipeline.networks.network import build_classifier
from pipeline.networks.weights import find_weights
from pipeline.recipe.training_settings import Model

# Side of the input, batch size, steps of a window.
NETWORKS = {"ResNet": (80, 16, 20), "MobileNetV2": (224, 8, 3), "ResNet50": (224, 8, 1)}
WAYS = {"float32": ("float32", False), "mixed_bfloat16": ("mixed_bfloat16", False), "jit_compile": ("float32", True)}
WINDOWS = {"quick": 1, "standard": 5, "full": 11}


def run(size: str = "standard") -> dict[str, Any]:
    """Measure each network each way."""
    began, found = time.monotonic(), {}
    for name in NETWORKS:
        found[name] = _measure(name, WINDOWS[size])
        say(f"{name}: measured", began)
    return {"size": size, "networks": found}


def _measure(name: str, windows: int) -> dict[str, Any]:
    """Return milliseconds of a step by the clock and of the processor, by way: median, least and most of windows."""
    _, _, steps = NETWORKS[name]
    ways = {way: _build(name, *settings) for way, settings in WAYS.items()}
    for step in ways.values():
        step()  # traces, and compiles
    wall: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(windows):
        for way, step in ways.items():
            started, used = time.perf_counter(), time.process_time()
            for _ in range(steps):
                step()
            wall[way].append(1e3 * (time.perf_counter() - started) / steps)
            processor[way].append(1e3 * (time.process_time() - used) / steps)
    return {
        "step_ms": {way: median_and_range(values) for way, values in wall.items()},
        "step_processor_ms": {way: median_and_range(values) for way, values in processor.items()},
        "times_faster_than_float32": {
            way: median_and_range(list(np.divide(wall["float32"], wall[way]))) for way in ways if way != "float32"
        },
        "times_less_processor_time": {
            way: median_and_range(list(np.divide(processor["float32"], processor[way])))
            for way in ways
            if way != "float32"
        },
    }


def _build(name: str, policy: str, jit: bool) -> Callable[[], object]:
    """Return what trains a step of a network."""
    import keras

    side, batch, _ = NETWORKS[name]
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(7)
        settings = Model(backbone=name, weights="none", input_size=side)
        weights = find_weights(find_backbone(name), "none")
        model = build_classifier(settings, weights, num_classes=3, channels=3).model
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", jit_compile=jit)
    rng = np.random.default_rng(7)
    images = rng.uniform(-1, 1, (batch, side, side, 3)).astype(np.float32)
    targets = rng.integers(0, 3, batch)
    return lambda: model.train_on_batch(images, targets)


def median_and_range(values: Sequence[float]) -> list[float]:
    """Return the median, the least and the greatest value, with three digits."""
    return [round(float(value), 3) for value in (np.median(values), min(values), max(values))]
