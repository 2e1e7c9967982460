"""The lectures' six recipes on real sets, by Fovea and by plain Keras: test accuracy and seconds an epoch.

`python -m benchmarks lectures [--epochs 3] [--seeds 3] [--images 60000] [--recipes NAME ...] [--mnist FOLDER]
[--cifar10 FOLDER]`. Fashion-MNIST is Debian's package dataset-fashion-mnist, written to the cache as PNG files. The
two sides take turns, an epoch each. Finished trainings are kept in the cache, so that a run that was stopped goes on;
`--again` trains anew. The result has everything that is finished in the cache. Plain Keras is `model.fit` on float32
arrays in memory, with Keras's defaults: the same images, network, optimizer and batch size. Fovea trains as
`pipeline run` does: deterministic operations, a checkpoint and the curves after each epoch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

# The lectures' figure of each recipe, and the set that it is of.
FIGURES: dict[str, tuple[str, float] | None] = {
    "conv32-pool-conv64-pool-flatten-dropout": ("mnist", 0.9922),
    "conv64-conv32-flatten": ("mnist", 0.9773),
    "conv32-conv64-pool-dense128": ("fashion-mnist", 0.9240),
    "conv32-pool": ("fashion-mnist", 0.8962),
    "conv2-pool": ("fashion-mnist", 0.8582),
    "lenet": None,
}
RATIO = 1.15  # an epoch of Fovea by one of plain Keras, at most
_SETTINGS = {"cifar10": ("data.color=rgb", "model.input_size=32")}
_LEVEL = 0.95


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options of `run`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lectures", allow_abbrev=False)
    parser.add_argument("--epochs", type=_count, default=3, help="of each training")
    parser.add_argument("--seeds", type=_count, default=3, help="trainings of each recipe")
    parser.add_argument("--images", type=_count, default=60_000, help="of each set, for training and validation")
    parser.add_argument("--recipes", nargs="+", choices=list(FIGURES), default=list(FIGURES), metavar="NAME")
    parser.add_argument("--mnist", type=_set_folder, metavar="FOLDER", help="with train/<class>/ and test/<class>/")
    parser.add_argument("--cifar10", type=_set_folder, metavar="FOLDER", help="likewise, in colour")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="of sets and finished trainings")
    parser.add_argument("--again", action="store_true", help="train also what is finished")
    parser.add_argument("--print-only", action="store_true", help="write no result and no page")
    return vars(parser.parse_args(arguments))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1. Received: {text!r}")
    return int(text)


def _set_folder(text: str) -> Path:
    if not all((Path(text) / part).is_dir() for part in ("train", "test")):
        raise argparse.ArgumentTypeError(f"expected a folder with train/ and test/. Received: {text!r}")
    return Path(text)


def run(
    *,
    epochs: int = 3,
    seeds: int = 3,
    images: int = 60_000,
    recipes: Sequence[str] = tuple(FIGURES),
    mnist: Path | None = None,
    cifar10: Path | None = None,
    cache: Path | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """Train; see the module."""
    from benchmarks.training.job import Job
    from benchmarks.training.sets import default_cache, write_fashion
    from benchmarks.training.turns import train_in_turns

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    cache = cache or default_cache()
    folders = {"fashion-mnist": write_fashion(cache), "mnist": mnist, "cifar10": cifar10}
    given = {name: folder for name, folder in folders.items() if folder is not None}
    # Seeds outside: a run that is stopped has trained every recipe equally often.
    jobs = {
        _kept(cache, name, images, epochs) / f"{recipe}-{seed}.json": Job(
            folder, recipe, _SETTINGS.get(name, ()), seed, epochs, images
        )
        for seed in range(seeds)
        for name, folder in given.items()
        for recipe in recipes
    }
    left = {path: job for path, job in jobs.items() if again or not path.exists()}
    for path, trained in zip(left, train_in_turns(list(left.values())), strict=True):
        _keep(path, trained)
    return {"wanted_ratio": RATIO, "runs": [_summarize_run(folder) for folder in sorted((cache / "trained").iterdir())]}


def _summarize_run(folder: Path) -> dict[str, Any]:
    """Return all finished trainings on a set, of so many images and epochs."""
    name, images, epochs = folder.name.rsplit("-", 2)
    trained: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in FIGURES}
    for path in sorted(folder.glob("*.json")):
        trained[path.stem.rpartition("-")[0]].append(json.loads(path.read_text(encoding="utf-8")))
    recipes = {recipe: summarize(found, FIGURES[recipe], name) for recipe, found in trained.items() if found}
    return {"set": name, "images": int(images), "epochs": int(epochs), "recipes": recipes}


def _kept(cache: Path, name: str, images: int, epochs: int) -> Path:
    """Return the folder of finished trainings on a set."""
    return cache / "trained" / f"{name}-{images}-{epochs}"


def _keep(path: Path, trained: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(trained), encoding="utf-8")
    unfinished.replace(path)
    accuracies = ", ".join(f"{side} {trained[side]['accuracy']:.4f}" for side in ("fovea", "keras"))
    print(f"{path.parent.name} {path.stem}: {accuracies}, ratios {_ratios(trained, 'seconds')}", flush=True)


def summarize(trained: Sequence[Mapping[str, Any]], figure: tuple[str, float] | None, name: str) -> dict[str, Any]:
    """Return one recipe's results over its seeds.

    Args:
        trained: by `train_in_turns`, one for each seed.
        figure: the set and the accuracy of the lectures; None where they give none.
        name: of the set.
    """
    sides = {}
    for side in ("fovea", "keras"):
        accuracies = [one[side]["accuracy"] for one in trained]
        epochs = [epoch for one in trained for epoch in _timed(one[side]["epochs"])]
        sides[side] = {
            "accuracy": interval(accuracies),
            "accuracies": accuracies,
            "epoch_s": round(median(epoch["seconds"] for epoch in epochs), 2),
            "epoch_cpu_s": round(median(epoch["cpu_s"] for epoch in epochs), 2),
        }
    differences = [one["fovea"]["accuracy"] - one["keras"]["accuracy"] for one in trained]
    turns = [ratio for one in trained for ratio in _ratios(one, "seconds")]
    cpu = [ratio for one in trained for ratio in _ratios(one, "cpu_s")]
    loads = [load for one in trained for load in one["load"]]
    return {
        **sides,
        "difference": interval(differences),
        "seeds": len(trained),
        "quiet": median(loads) <= (os.cpu_count() or 1) + 1,
        "ratio": round(median(turns), 3),
        "ratios": turns,
        "cpu_ratio": round(median(cpu), 3),
        "lecture": figure[1] if figure and figure[0] == name else None,
        "load": {"lowest": min(loads), "median": median(loads), "highest": max(loads)},
    }


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean and its 95 % interval by Student's t; one value has none."""
    from scipy import stats

    mean = fmean(values)
    if len(values) < 2:
        return {"mean": round(mean, 4), "low": None, "high": None}
    half = float(stats.t.ppf(0.5 + _LEVEL / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def _timed(epochs: Sequence[dict[str, float]]) -> Sequence[dict[str, float]]:
    """Leave the first epoch out, in which both sides trace their graphs, unless it is the only one."""
    return epochs[1:] or epochs


def _ratios(trained: Mapping[str, Any], key: str) -> list[float]:
    pairs = zip(_timed(trained["fovea"]["epochs"]), _timed(trained["keras"]["epochs"]), strict=True)
    return [round(ours[key] / theirs[key], 3) for ours, theirs in pairs]
