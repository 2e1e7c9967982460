"""Training at float32, at `mixed_bfloat16` and at what `train.precision: auto` takes: what the networks get right.

Each network is trained whole on 2,000 images of Fashion-MNIST by the pipeline: the demo's from nothing, the others
for an epoch from the weights that `python -m benchmarks precisions` trains, on other images. Accuracies are those of
the published network, which computes at float32.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.demo import run_pipeline
from benchmarks.precisions import FOLDER, SIDE, find_weights
from benchmarks.serving import say
from benchmarks.training.sets import write_fashion_parts

IMAGES = {"train": slice(58_000, 60_000), "test": slice(0, 2_000)}
NETWORKS = {"ResNet": (6, 0.001), "MobileNetV2": (1, 0.0001), "ResNet50": (1, 0.0001)}  # epochs, learning rate
SEEDS = {"quick": (0,), "standard": (0, 1), "full": (0, 1, 2, 3, 4)}
_PRECISIONS = ("float32", "mixed_bfloat16")
_OPTIONS = (
    "augment.rotation_range=0",
    "augment.width_shift_range=0",
    "augment.height_shift_range=0",
    "augment.horizontal_flip=false",
    "data.val_fraction=0.25",
    "train.freeze_backbone=false",
    "train.fine_tune.epochs=0",
    "export.precisions=[float32]",
    f"model.input_size={SIDE}",
)


def run(size: str = "standard") -> dict[str, Any]:
    """Train each network at each precision."""
    began, networks = time.monotonic(), {}
    for name in NETWORKS:
        rows = {precision: [_train(name, precision, s) for s in SEEDS[size]] for precision in _PRECISIONS}
        auto = _train(name, "auto", 0)
        networks[name] = {**rows, "auto": auto["precisions"]["network"]}
        say(f"{name}: trained", began)
    return {"size": size, "input_size": SIDE, "networks": networks}


def _train(name: str, precision: str, seed: int) -> dict[str, Any]:
    epochs, rate = NETWORKS[name]
    weights = "none" if name == "ResNet" else str(find_weights(FOLDER, name))
    options = [*_OPTIONS, f"train.precision={precision}", f"train.seed={seed}", f"train.epochs={epochs}"]
    options += [f"train.learning_rate={rate}", f"model.backbone={name}", f"model.weights={weights}"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_fashion_parts(folder / "set", IMAGES)
        places = ("--models-dir", str(folder / "models"), "--runs-dir", str(folder / "runs"))
        settings = (argument for option in options for argument in ("--set", option))
        run_pipeline("run", str(folder / "set"), "--name", "model", *places, *settings)
        (path,) = folder.glob("runs/model/*/metrics.json")
        metrics = json.loads(path.read_text())
    return {
        "val_loss": metrics["training"]["best"]["val_loss"],
        "val_accuracy": metrics["training"]["best"]["val_accuracy"],
        "test_accuracy": metrics["test"]["accuracy"],
        "balanced_accuracy": metrics["test"]["balanced_accuracy"],
        **({"precisions": metrics["training"]["precisions"]} if precision == "auto" else {}),
    }
