"""Measures the engines of `pipeline score` and of frozen networks against the plain Keras graph.

Decoding is left out, it is the same for both. Each round runs every way on the same pixels, one after the other, so
that what else happens on the machine hits all of them; the ratios are medians over rounds. CPU time an image is given
too: on a shared machine it says more than the clock. The int8 model is calibrated on noise: it is as fast as a real
one, and says nothing of answers.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES: dict[str, tuple[tuple[str, ...], int]] = {
    "quick": (("MobileNetV2",), 1),
    "standard": (("ResNet50",), 7),
    "full": (("ResNet50", "VGG16", "DenseNet121", "EfficientNetB0", "MobileNetV2"), 7),
}
BATCH = 32
CLASSES = 5

Way = Callable[[NDArray[np.uint8]], Any]


def run(size: str = "standard") -> dict[str, Any]:
    """Measure each network and return rates and ratios."""
    names, rounds = SIZES[size]
    return {
        "size": size,
        "batch": BATCH,
        "rounds": rounds,
        "networks": {name: _measure_network(name, rounds) for name in names},
    }


def _measure_network(name: str, rounds: int) -> dict[str, Any]:
    import keras

    from engine.loading import load_engine, offered_precisions
    from pipeline.features.frozen_network import ExportedNetwork, FrozenNetwork
    from pipeline.networks.network import build_classifier
    from pipeline.networks.splitting import split_before_head
    from pipeline.networks.weights import Weights
    from pipeline.recipe.training_settings import Model

    keras.utils.set_random_seed(0)
    settings = Model.model_validate({"backbone": name, "weights": "none"})
    classifier = build_classifier(settings, Weights("none", None), num_classes=CLASSES, channels=3)
    network, preprocessing = split_before_head(classifier).frozen, classifier.preprocessing
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        directory = _export(classifier, Path(folder, "model"))
        _quantize(directory, Path(folder, "noise"))
        engines = {
            precision: load_engine(directory, precision=precision, num_streams=1)
            for precision in offered_precisions(directory, "openvino")
        }
        frozen = FrozenNetwork(ExportedNetwork(network, preprocessing))
        results = {
            "score": _compare(
                {
                    "keras_predict": _keras_predict(classifier.model, preprocessing),
                    "keras_graph": _keras_graph(classifier.model, preprocessing),
                    **{f"engine_{precision}": _engine_run(engine) for precision, engine in engines.items()},
                },
                classifier.model.input.shape[1:],
                rounds,
            ),
            "features": _compare(
                {
                    "keras_predict": _keras_predict(network, preprocessing),
                    "keras_graph": _keras_graph(network, preprocessing),
                    "engine": frozen.compute,
                },
                network.input.shape[1:],
                rounds,
            ),
        }
        for engine in engines.values():
            engine.close()
    keras.backend.clear_session()
    return {"features_run_on": frozen.runtime, **results}


def _export(classifier: Any, directory: Path) -> Path:
    from contract.model import InputSpec, Label, ModelContract, build_document
    from pipeline.publishing.export import export_saved_model

    directory.mkdir()
    height, width = classifier.model.input.shape[1:3]
    labels = [Label(str(i), str(i)) for i in range(CLASSES)]
    document = build_document(labels, InputSpec(height, width), saliency="cam")
    export_saved_model(classifier, ModelContract.from_document(document), directory)
    return directory


def _quantize(directory: Path, folder: Path) -> None:
    """Make the int8 model of a SavedModel, from images of noise that are written to a folder."""
    from PIL import Image

    from contract.model import ModelContract
    from contract.store import CONTRACT_FILE
    from pipeline.data.folder_source import FolderSource
    from pipeline.data.pixels import Pixels
    from pipeline.publishing.precisions.int8 import NUM_CALIBRATION, quantize

    spec = ModelContract.from_json((directory / CONTRACT_FILE).read_bytes()).input
    folder.mkdir()
    paths = [f"{number}.png" for number in range(NUM_CALIBRATION)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 256, spec.shape, np.uint8)
        Image.fromarray(noise).save(folder / path)
    quantize(directory, Pixels(FolderSource(folder), spec), paths)


def _engine_run(engine: Any) -> Way:
    return lambda images: engine.run("serving_default", {"images": images})


def _keras_predict(model: Any, preprocessing: Any) -> Way:
    from pipeline.networks.backbone import preprocess

    return lambda images: model.predict(
        preprocess(images.astype(np.float32), preprocessing), batch_size=BATCH, verbose=0
    )


def _keras_graph(model: Any, preprocessing: Any) -> Way:
    import tensorflow as tf

    from pipeline.networks.backbone import preprocess

    graph = tf.function(lambda images: model(preprocess(images, preprocessing), training=False), autograph=False)
    return lambda images: graph(tf.cast(images, tf.float32)).numpy()


def _compare(ways: dict[str, Way], shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, compute in ways.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            compute(images)
            if number:  # the first round traces and compiles
                seconds[way].append(time.perf_counter() - wall_start)
                cpu[way].append(time.process_time() - cpu_start)
    return {
        **{
            way: {
                "images_per_s": round(BATCH / statistics.median(seconds[way]), 2),
                "cpu_ms_per_image": round(1e3 * statistics.median(cpu[way]) / BATCH, 2),
            }
            for way in ways
        },
        **{
            f"{own}_over_{other}": {"speed": _ratio(seconds[other], seconds[own]), "cpu": _ratio(cpu[other], cpu[own])}
            for own in ways
            for other in ways
            if own.startswith("engine") and other.startswith("keras")
        },
    }


def _ratio(others: list[float], ours: list[float]) -> float:
    return round(statistics.median(other / our for other, our in zip(others, ours, strict=True)), 2)
