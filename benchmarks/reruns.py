"""Measures CPU seconds of a run, of a rerun on 5 % more images, and of that rerun with `--warm-start`.

`run() -> dict`: whole commands on sample sets of three sizes with a frozen backbone, user and system time of the
process and its children. What a run costs whatever the number of pictures weighs more in the smaller ones. Each
backbone has random weights whose batch norm was fitted to the pictures, so that nothing is downloaded; the last one
also spreads its channels, as trained features do. The warm start begins with the store as the first run left it, so
both reruns see the same caches but for what the other added: the store and the runs are copied before. The first
version is made live by force: with such a backbone no head passes the gate.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.sample.sample import write_glaucoma_set

_ROOT = Path(__file__).resolve().parents[1]
# Patients a class for training and test, each with two pictures, and patients a class that are added; three classes.
_MEASURED = {"small": (80, 20, 5), "ordinary": (400, 100, 25), "large": (1200, 300, 75)}
_SETS = {"quick": {"tiny": (8, 4, 1)}, "standard": _MEASURED, "full": _MEASURED}
_BACKBONES = {
    "quick": {"MobileNetV2": "Conv_1_bn"},
    "standard": {"MobileNetV2": "Conv_1_bn"},
    "full": {"MobileNetV2": "Conv_1_bn", "ResNet50": "conv5_block3_3_bn"},
}
_FITTED = 48  # pictures that the batch norm is fitted to
LIMITS = {"rerun": 0.6, "warm_start": 0.35}  # shares of the first run's CPU seconds that are aimed at
_PATIENCE_S = 3600.0


def run(size: str = "standard") -> dict[str, Any]:
    """Measure; see the module."""
    with tempfile.TemporaryDirectory(prefix="reruns-") as temporary:
        sets = {name: _measure_set(Path(temporary) / name, *patients, size) for name, patients in _SETS[size].items()}
    return {"limits": LIMITS, "sets": sets}


def _measure_set(folder: Path, train: int, test: int, added: int, size: str) -> dict[str, Any]:
    """Return the number of pictures of a set and what the commands cost with each backbone."""
    counts = _write_sets(folder, train, test, added)
    return {
        "images": counts,
        "networks": {name: measure(folder, name, last) for name, last in _BACKBONES[size].items()},
    }


def measure(folder: Path, backbone: str, last: str) -> dict[str, Any]:
    """Return what each of the three commands costs with one backbone."""
    weights, work = folder / f"{backbone}.weights.h5", folder / backbone
    _make_weights(folder / "first", backbone, last, weights)
    settings = [f"model.backbone={backbone}", f"model.weights={weights}", "train.fine_tune.epochs=0"]
    # Without the search for layers that hurt at int8: it takes minutes in each run, whatever is kept.
    settings += [r"data.group=^(N?P\d+)_", "export.int8_minutes=0"]
    first = _train(folder / "first", work, settings, "--force")
    warm = Path(shutil.copytree(work, folder / f"{backbone}-warm"))
    found = {
        "first": first,
        "rerun": _train(folder / "second", work, settings),
        "warm_start": _train(folder / "second", warm, settings, "--warm-start"),
    }
    for name in LIMITS:
        found[name]["share"] = round(found[name]["cpu_s"] / first["cpu_s"], 3)
    return found


def _write_sets(folder: Path, train: int, test: int, added: int) -> dict[str, int]:
    """Write the set, and the same with more training images."""
    write_glaucoma_set(folder / "first", seed=1, train_patients_per_class=train, test_patients_per_class=test)
    write_glaucoma_set(folder / "more", seed=99, train_patients_per_class=added, test_patients_per_class=1)
    shutil.copytree(folder / "first", folder / "second")
    for path in sorted((folder / "more" / "train").rglob("*.*")):
        shutil.copy(path, folder / "second" / "train" / path.parent.name / f"N{path.name}")
    return {
        name: sum(path.is_file() for split in ("train", "test") for path in (folder / name / split).rglob("*.*"))
        for name in ("first", "second")
    }


def _make_weights(pictures: Path, backbone: str, last: str, path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.workload.fitted_weights", str(pictures), backbone, last, str(path)]
    subprocess.run([*command, str(_FITTED)], check=True, cwd=_ROOT, timeout=_PATIENCE_S, capture_output=True)


def _train(dataset: Path, work: Path, settings: list[str], *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipeline", "run", str(dataset), "--name=eyes", *options]
    command += [f"--models-dir={work / 'models'}", f"--runs-dir={work / 'runs'}", *(f"--set={one}" for one in settings)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command, check=False, cwd=_ROOT, timeout=_PATIENCE_S, env=environment, capture_output=True, text=True
    )
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr[-2000:]}")
    latest = max((work / "runs" / "eyes").iterdir(), key=lambda folder: folder.stat().st_mtime)
    metrics = json.loads((latest / "metrics.json").read_text())
    return {
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "seconds": round(seconds, 1),
        "seconds_by_stage": metrics["timings"],
        "epochs": len(metrics["training"]["curves"]),
        "accuracy": round(metrics["test"]["accuracy"], 4),
        "verdict": metrics["gate"]["verdict"],
    }
