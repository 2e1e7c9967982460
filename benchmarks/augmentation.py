"""Images a second that each augmentation engine gives to training, from JPEG files and from memory."""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES = 128
FILE_SIZE = 512  # pixels
INPUT_SIZE = 224  # pixels
BATCH = 32
EPOCHS = 4  # the first decodes; the others are from memory
SETTINGS = {
    "classic": [],
    "everything": [
        "augment.shear_range=10",
        "augment.zoom_range=0.2",
        "augment.brightness_range=[0.8, 1.2]",
        "augment.channel_shift_range=20",
        "augment.vertical_flip=true",
    ],
}


def run() -> dict[str, Any]:
    """Time whole epochs of batches, as training takes them, without training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        _write_images(folder)
        measured = {}
        for settings, overrides in SETTINGS.items():
            engines = {engine: _measure(folder, engine, overrides) for engine in ("keras", "fast")}
            later = {engine: one["later_epochs_images_per_s"] for engine, one in engines.items()}
            cpu = {engine: one["later_epochs_images_per_cpu_s"] for engine, one in engines.items()}
            measured[settings] = {
                **engines,
                "speedup_later_epochs": round(later["fast"] / later["keras"], 2),
                "speedup_per_cpu_s": round(cpu["fast"] / cpu["keras"], 2),
            }
    return {"images": IMAGES, "input_size": INPUT_SIZE, "batch_size": BATCH, "settings": measured}


def _measure(folder: Path, engine: str, overrides: list[str]) -> dict[str, float]:
    from contract.model import InputSpec
    from pipeline.augmentation.augment import make_augmentation
    from pipeline.data.ingest import ingest
    from pipeline.data.pixels import Pixels
    from pipeline.data.split import ManifestRow
    from pipeline.recipe.recipe import load_recipe
    from pipeline.training.batches import Batches

    dataset = ingest(folder)
    rows = [
        ManifestRow(e.path, hashlib.sha256(dataset.source.read(e.path)).hexdigest(), e.label, e.path, "train")
        for e in dataset.examples
    ]
    pixels = Pixels(dataset.source, InputSpec(INPUT_SIZE, INPUT_SIZE, 3, "rgb"))
    augment = load_recipe("default", [f"augment.engine={engine}", *overrides]).augment
    batches = Batches(
        rows, dataset.labels, pixels, "caffe", batch_size=BATCH, augmentation=make_augmentation(augment, 0)
    )
    wall, cpu = [], []
    steps = iter(batches.dataset())
    next(steps)  # tracing is not what is measured
    for _ in range(EPOCHS):
        start, start_cpu = time.monotonic(), time.process_time()
        for _ in range(len(batches)):
            next(steps)
        wall.append(time.monotonic() - start)
        cpu.append(time.process_time() - start_cpu)
    return {
        "first_epoch_images_per_s": round(IMAGES / wall[0], 1),
        "later_epochs_images_per_s": round(IMAGES / statistics.median(wall[1:]), 1),
        "later_epochs_images_per_cpu_s": round(IMAGES / statistics.median(cpu[1:]), 1),
    }


def _write_images(folder: Path) -> None:
    y, x = np.mgrid[:FILE_SIZE, :FILE_SIZE] / FILE_SIZE
    for i in range(IMAGES):
        rng = np.random.default_rng(i)
        waves = [np.sin(rng.uniform(5, 40) * x + rng.uniform(5, 40) * y + k) for k in range(3)]
        pixels = 128 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 8, (FILE_SIZE, FILE_SIZE, 3))
        path = folder / f"class-{i % 2}" / f"{i:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)
