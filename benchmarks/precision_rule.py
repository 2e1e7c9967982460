"""The rule for faster precisions, simulated: how often it accepts one that changes a known share of all predictions.

Three networks are trained by the pipeline. Each computes the probabilities of a pool of images that it never saw, at
float32 and at the faster precisions of this machine. Further precisions are made: noise on every logit, a shift of one
class, another image's answer for a few images. A draw from the pool plays the part of a version's validation and
training images.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.serving import say
from contract.image import decode_image
from contract.model import ModelContract
from contract.store import CONTRACT_FILE
from engine.loading import load_engine
from engine.precision_names import FLOAT32
from engine.runtime import preferred_runtime
from pipeline.data.split import ManifestRow
from pipeline.publishing.precisions.equivalence import MAX_CHANGED, Evidence, Limits, judge

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
DRAWS = {"quick": 20, "standard": 200, "full": 1000}
DRAWN = (299, 1000, 2000)  # images of a draw
VALIDATION = 0.2  # share of a draw
OLD_RULE_IMAGES = 120
NOISES = (0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)  # standard deviations of a logit
SHIFTS = (0.01, 0.03, 0.1, 0.3)  # added to the logit of the first class
TORN = (0.001, 0.003, 0.01, 0.02, 0.05)  # shares of images that get another image's probabilities
LIMITS = Limits(tolerance=0.02, metric="balanced_accuracy", margin=0.02)
_POOL = 3000
_BATCH = 50
_LEAST = 1e-7

Writer = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Pool:
    """Images that a network never saw: targets, shape (images,), and their groups."""

    targets: NDArray[np.int64]
    groups: tuple[str, ...]
    probabilities: dict[str, NDArray[np.float32]]


def run(size: str = "standard") -> dict[str, Any]:
    """Train the networks and simulate the rule on each."""
    began, models = time.monotonic(), {}
    for name, (write, options) in MODELS.items():
        with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
            folder = Path(temporary)
            write(folder / "set", folder / "pool")
            pool = _train(folder, options)
        say(f"{name}: trained", began)
        models[name] = _simulate(pool, DRAWS[size])
        say(f"{name}: simulated", began)
    return {"size": size, "draws": DRAWS[size], "models": models, **_summary(models)}


def _write_eyes(training: Path, pool: Path) -> None:
    for seed, out in ((7, training), *((seed, pool / str(seed)) for seed in range(8, 13))):
        command = [sys.executable, "-m", "pipeline", "sample", "glaucoma", "--out", str(out), "--seed", str(seed)]
        subprocess.run(command, check=True, capture_output=True)


def _write_digits(training: Path, pool: Path) -> None:
    images, targets = load_digits(return_X_y=True)
    pictures = (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)
    _write_images(training, pictures[:900], targets[:900])
    _write_images(pool / "test", pictures[900:], targets[900:])


def _write_clothes(training: Path, pool: Path) -> None:
    for prefix, folder, count in (("train", training, 4000), ("t10k", pool / "test", _POOL)):
        pictures = np.frombuffer(gzip.decompress((FASHION / f"{prefix}-images-idx3-ubyte.gz").read_bytes())[16:], "u1")
        targets = np.frombuffer(gzip.decompress((FASHION / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())[8:], "u1")
        _write_images(folder, pictures.reshape(-1, 28, 28)[:count], targets[:count])


def _write_images(folder: Path, pictures: NDArray[np.uint8], targets: NDArray[Any]) -> None:
    for i, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
        path = folder / f"class-{target}" / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


_SMALL = ("model.weights=none", "train.freeze_backbone=false", "augment.horizontal_flip=false", "train.epochs=12")
MODELS: dict[str, tuple[Writer, tuple[str, ...]]] = {
    "sample set, demo recipe": (_write_eyes, ("--recipe=demo", r"--set=data.group=^(P\d+)_")),
    "digits, LeNet": (
        _write_digits,
        ("--set=model.backbone=LeNet", *(f"--set={item}" for item in _SMALL), "--set=train.learning_rate=0.002"),
    ),
    "Fashion-MNIST, MnistCNN": (
        _write_clothes,
        ("--set=model.backbone=MnistCNN", *(f"--set={item}" for item in _SMALL), "--set=train.learning_rate=0.001"),
    ),
}


def _train(folder: Path, options: tuple[str, ...]) -> Pool:
    """Train and publish a network; return its probabilities of the pool at every precision of this machine."""
    places = ["--models-dir", str(folder / "models"), "--runs-dir", str(folder / "runs")]
    command = [sys.executable, "-m", "pipeline", "run", str(folder / "set"), "--name", "model", *places, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    version = folder / "models/model/1"
    contract = ModelContract.from_json((version / CONTRACT_FILE).read_bytes())
    index = {label.id: i for i, label in enumerate(contract.labels)}
    paths = [path for path in sorted((folder / "pool").rglob("*.*")) if path.parent.name in index]
    targets = np.array([index[path.parent.name] for path in paths], np.int64)
    found = {}
    runtime = preferred_runtime()
    for precision in runtime.precisions():
        engine = load_engine(version, engine=runtime.name, precision=precision)
        batches = []
        for start in range(0, len(paths), _BATCH):
            files = [path.read_bytes() for path in paths[start : start + _BATCH]]
            images = np.stack([decode_image(file, contract.input) for file in files])
            batches.append(engine.run("serving_default", {"images": images})["probabilities"])
        engine.close()
        found[precision] = np.concatenate(batches)
    return Pool(targets, tuple(_group(path) for path in paths), found)


def _group(path: Path) -> str:
    """Return the patient of an eye, in its own set; another picture is its own group."""
    name = path.name.split("_")[0] if "_" in path.name else path.stem
    return f"{path.parts[-4]}/{name}" if "_" in path.name else name


def _simulate(pool: Pool, draws: int) -> dict[str, Any]:
    expected = pool.probabilities[FLOAT32]
    accuracy = float((expected.argmax(axis=1) == pool.targets).mean())
    rows = [
        {"precision": name, **_accept(pool, expected, received, draws)}
        for name, received in _precisions(pool, expected)
    ]
    return {"pool_images": len(pool.targets), "accuracy": round(accuracy, 4), "precisions": rows}


def _precisions(pool: Pool, expected: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield from ((name, received) for name, received in pool.probabilities.items() if name != FLOAT32)
    logits = np.log(np.maximum(expected.astype(np.float64), _LEAST))
    for noise in NOISES:
        yield f"logits + N(0, {noise:g})", _softmax(logits + np.random.default_rng(0).normal(0, noise, logits.shape))
    for shift in SHIFTS:
        yield f"first logit + {shift:g}", _softmax(logits + shift * (np.arange(logits.shape[1]) == 0))
    for share in TORN:
        received, rng = expected.copy(), np.random.default_rng(0)
        torn = rng.permutation(len(expected))[: round(share * len(expected))]
        received[torn] = expected[rng.integers(0, len(expected), len(torn))]
        yield f"{share:.1%} get another's answer", received


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _accept(pool: Pool, expected: NDArray[np.float32], received: NDArray[np.float32], draws: int) -> dict[str, Any]:
    changed = float((expected.argmax(axis=1) != received.argmax(axis=1)).mean())
    rows = np.arange(len(pool.targets))
    losses = [-np.log(np.maximum(p[rows, pool.targets].astype(np.float64), _LEAST)) for p in (expected, received)]
    accepted = {str(size): _share_accepted(pool, expected, received, size=size, draws=draws) for size in DRAWN}
    return {
        "changed": round(changed, 5),
        "log_loss_rise": round(float((losses[1] - losses[0]).mean()), 5),
        "moved_95": round(float(np.quantile(np.abs(expected - received).max(axis=1), 0.95)), 5),
        "accepted": accepted,
        "accepted_by_old_rule": _share_accepted_before(pool, expected, received, draws=draws),
    }


def _share_accepted(
    pool: Pool, expected: NDArray[np.float32], received: NDArray[np.float32], *, size: int, draws: int
) -> float:
    rng, accepted = np.random.default_rng(size), 0
    for _ in range(draws):
        drawn = rng.integers(0, len(pool.targets), size)
        splits = ["val" if i < size * VALIDATION else "train" for i in range(size)]
        manifest = tuple(
            ManifestRow(str(i), hashlib.sha256().hexdigest(), "", pool.groups[i], split)  # type: ignore[arg-type]
            for i, split in zip(drawn, splits, strict=True)
        )
        evidence = Evidence(manifest, pool.targets[drawn])
        accepted += judge("", "", evidence, expected[drawn], received[drawn], LIMITS).equivalent
    return round(accepted / draws, 4)


def _share_accepted_before(
    pool: Pool, expected: NDArray[np.float32], received: NDArray[np.float32], *, draws: int
) -> float:
    """Return how often no prediction of OLD_RULE_IMAGES changes and none moves by more than the tolerance."""
    rng, accepted = np.random.default_rng(0), 0
    same = expected.argmax(axis=1) == received.argmax(axis=1)
    near = np.abs(expected - received).max(axis=1) <= LIMITS.tolerance
    for _ in range(draws):
        drawn = rng.integers(0, len(pool.targets), OLD_RULE_IMAGES)
        accepted += bool((same & near)[drawn].all())
    return round(accepted / draws, 4)


def _summary(models: dict[str, Any]) -> dict[str, Any]:
    """Return the largest share of draws, by their size, that accepts a precision which changes more than 1 %."""
    rows = [row for model in models.values() for row in model["precisions"] if row["changed"] > MAX_CHANGED]
    return {
        "most_accepted_above_1_percent": {size: max(row["accepted"][size] for row in rows) for size in map(str, DRAWN)}
    }
