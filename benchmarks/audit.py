"""`python -m pipeline audit` over 10,000 photographs of 512 x 512 pixels: seconds, memory, and what it finds.

The pictures are turned, cropped, tinted and grained copies of the synthetic eyes; one in five is a PNG. A hundred
copies are planted: fifty files once more in test/, fifty compressed again in train/.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.sample.sample import write_glaucoma_set

FILES = 10_000
PLANTED = 50  # of each kind
SIDE = 512  # pixels
LABELS = ("glaucoma", "normal", "suspect")
TIMEOUT_S = 1800


def run() -> dict[str, Any]:
    """Write the set, audit it once in a fresh process, and compare what was found with what was planted."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_set(folder / "set", folder / "eyes")
        megabytes = sum(path.stat().st_size for path in (folder / "set").rglob("*.*")) / 1e6
        command = [sys.executable, "-m", "pipeline", "audit", str(folder / "set"), f"--runs-dir={folder / 'runs'}"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S).returncode
        seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        (record,) = (folder / "runs" / "set").glob("*/audit.json")
        findings = {found["code"]: found["images"] for found in json.loads(record.read_text())["findings"]}
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "files": FILES,
        "megabytes": round(megabytes),
        "exit_status": status,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        "files_per_s": round(FILES / seconds, 1),
        "peak_resident_mb": round(after.ru_maxrss / 1e3),
        "planted": {"leaked_copies": PLANTED, "near_copies": PLANTED},
        "planted_found": _count_planted(findings),
        "findings": {code: len(images) for code, images in findings.items()},
    }


def _count_planted(findings: dict[str, list[Any]]) -> dict[str, int]:
    """Return how many of the planted copies some finding names."""
    text = json.dumps(findings)
    return {
        "leaked_copies": sum(f"copy{number:03}." in text for number in range(PLANTED)),
        "near_copies": sum(f"again{number:03}." in text for number in range(PLANTED)),
    }


def _write_set(folder: Path, eyes: Path) -> None:
    write_glaucoma_set(eyes, seed=0, train_patients_per_class=20, test_patients_per_class=5)
    sources = sorted(path for path in eyes.rglob("*.*") if path.suffix in (".png", ".jpg"))
    for split in ("train", "test"):
        for label in LABELS:
            (folder / split / label).mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_picture, folder, sources), range(FILES - 2 * PLANTED), chunksize=50))
    for number in range(PLANTED):
        original = _path(folder, 10 * number + 1)  # of train, a JPEG
        (folder / "test" / original.parent.name / f"copy{number:03}.jpg").write_bytes(original.read_bytes())
        again = _path(folder, 10 * number + 2)
        Image.open(again).save(again.with_name(f"again{number:03}.jpg"), quality=60)


def _write_picture(folder: Path, sources: list[Path], number: int) -> None:
    rng = np.random.default_rng(number)
    image = Image.open(sources[int(rng.integers(len(sources)))]).convert("RGB").rotate(float(rng.uniform(-25, 25)))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = float(rng.uniform(0.75, 1.0)) * min(image.size)
    left, upper = rng.uniform(0, 1, 2) * (np.array(image.size) - side)
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, upper, left + side, upper + side))
    pixels = np.asarray(image) * rng.uniform(0.85, 1.1, 3) + rng.normal(0, 3, (SIDE, SIDE, 3))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    path = _path(folder, number)
    if path.suffix == ".png":
        image.save(path, compress_level=1)
    else:
        image.save(path, quality=90)


def _path(folder: Path, number: int) -> Path:
    split = "test" if number % 10 == 9 else "train"
    return folder / split / LABELS[number % 3] / f"eye{number:05}.{'png' if number % 5 == 0 else 'jpg'}"
