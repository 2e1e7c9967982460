"""The warning about pictures of another kind: false alarms, distances of strange pictures, and what it costs."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from contract.image import decode_image
from contract.model import InputSpec
from contract.novelty import NoveltyCheck, measure_images
from pipeline.evaluation.novelty import fit_novelty_check

SIZES = (80, 224)
SEED = "7"
_REPEATS = 2000


def run() -> dict[str, Any]:
    """Draw the sample set, fit to its training images, ask of its test images and of strange ones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        command = [sys.executable, "-m", "pipeline", "sample", "glaucoma", "--out", str(folder), "--seed", SEED]
        subprocess.run(command, check=True, capture_output=True)
        return {f"{size}_pixels": _measure(folder, size) for size in SIZES}


def _measure(folder: Path, size: int) -> dict[str, Any]:
    spec = InputSpec(size, size)
    images = {split: _load(folder / split, spec) for split in ("train", "test")}
    paths = _files(folder / "train")
    held_back = np.array([_is_validation(path) for path in paths])
    patients = [_patient(path) for path in paths if not _is_validation(path)]
    statistics_of = measure_images(images["train"])
    novelty = fit_novelty_check(statistics_of[~held_back], statistics_of[held_back], patients)
    distances = novelty.distances(images["test"])
    return {
        "training_images": int((~held_back).sum()),
        "validation_images": int(held_back.sum()),
        "test_images": len(distances),
        "threshold": round(novelty.threshold, 3),
        "test_alarms": int((distances > novelty.threshold).sum()),
        "test_distances": {str(q): round(float(np.percentile(distances, q)), 3) for q in (50, 90, 99, 100)},
        "strange_distances": {
            name: round(float(novelty.distances(image[None])[0]), 2)
            for name, image in _strange(images["test"][0], spec).items()
        },
        "cost_ms": {str(batch): _cost_ms(novelty, images["test"][:batch]) for batch in (1, 8)},
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _load(folder: Path, spec: InputSpec) -> NDArray[np.uint8]:
    return np.stack([decode_image(path.read_bytes(), spec) for path in _files(folder)])


def _is_validation(path: Path) -> bool:
    """Hold back one patient in seven."""
    return hashlib.sha256(_patient(path).encode()).digest()[0] % 7 == 0


def _patient(path: Path) -> str:
    return path.name.split("_")[0]


def _strange(eye: NDArray[np.uint8], spec: InputSpec) -> dict[str, NDArray[np.uint8]]:
    blank = np.zeros(spec.shape, np.uint8)
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    landscape, flower = (
        np.asarray(Image.fromarray(image).resize((spec.width, spec.height))) for image in load_sample_images().images
    )
    return {
        "portrait": decode_image(portrait.read_bytes(), spec),
        "landscape": landscape,
        "flower": flower,
        "black": blank,
        "white": blank + 255,
        "grey": blank + 128,
        "noise": np.random.default_rng(0).integers(0, 256, spec.shape, np.uint8),
        "eye_inverted": 255 - eye,
        "eye_red_and_blue_swapped": eye[..., ::-1],
        "eye_without_colour": np.repeat(eye.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
        "eye_six_times_too_dark": eye // 6,
        "eye_upside_down": eye[::-1],
    }


def _cost_ms(novelty: NoveltyCheck, images: NDArray[np.uint8]) -> dict[str, float]:
    """Return milliseconds for a whole request."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        novelty.find_unlike(images)
        times.append(1e3 * (time.perf_counter() - start))
    return {"median": round(statistics.median(times), 4), "best": round(min(times), 4)}
