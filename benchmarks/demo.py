"""The demo's recipe on three sample sets: accuracy, seconds, and how far the served artifact is from Keras."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS = (0, 1, 2)
SETTINGS = ("--set", r"data.group=^(P\d+)_", "--set", "evaluate.card.medical=true")  # as scripts/demo.py


def run() -> dict[str, Any]:
    """Draw, train and publish once a seed."""
    runs = [_one(seed) for seed in SEEDS]
    return {
        "runs": runs,
        "mean_test_accuracy": statistics.mean(r["test_accuracy"] for r in runs),
        "median_train_s": statistics.median(r["train_and_publish_s"] for r in runs),
    }


def _one(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.monotonic()
        run_pipeline("sample", "glaucoma", "--out", f"{folder}/set", "--seed", str(seed))
        drawn = time.monotonic()
        stores = (f"--models-dir={folder}/models", f"--runs-dir={folder}/runs")
        run_pipeline("run", f"{folder}/set", "--name", "glaucoma", "--recipe", "demo", *SETTINGS, *stores)
        done = time.monotonic()
        (metrics,) = folder.glob("runs/glaucoma/*/metrics.json")
        verification = folder / "models/glaucoma/1/assets.extra/verification.json"
        return {
            "seed": seed,
            "sample_s": round(drawn - start, 1),
            "train_and_publish_s": round(done - drawn, 1),
            "test_accuracy": json.loads(metrics.read_text())["test"]["accuracy"],
            "deviations": json.loads(verification.read_text())["deviations"],
        }


def run_pipeline(*arguments: str) -> None:
    """Run a command of the pipeline in a process of its own, without what it prints."""
    subprocess.run([sys.executable, "-m", "pipeline", *arguments], check=True, stdout=subprocess.DEVNULL)
