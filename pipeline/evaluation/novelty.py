"""Fits the novelty check to the training images; the contract holds it, and the gateway warns by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from contract.novelty import NoveltyCheck
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.evaluation.kept.statistics import KeptStatistics
from pipeline.evaluation.shift import find_difference, find_unlike
from pipeline.recipe.data_settings import Split

FALSE_ALARMS = 0.01  # share of ordinary images that may be warned of; the target of the threshold
_MAX_IMAGES = 2000  # of each split; more change nothing
_MIN_IMAGES = 10  # of training and of validation images, below which nothing can be said
_TAIL = 1.0  # percent at either end that does not move the centre or the spread
_MIN_SPREAD = 0.02  # a statistic that hardly varies in training must not make every other picture infinitely far
_MIN_VARIANCE = 1e-3
FOLDS = 5
_SEED = 1


@dataclass(frozen=True)
class FittedNoveltyCheck:
    """A novelty check with its false alarms.

    Attributes:
        novelty: goes into the contract.
        validation: validation images among those that the threshold was chosen on.
        test: test images that were measured.
        alarms: how many of these are called unlike the training images.
        warnings: on test images of another kind than the training images.
    """

    novelty: NoveltyCheck
    validation: int
    test: int
    alarms: int
    warnings: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return what contract and metrics.json hold."""
        return {
            **self.novelty.document(),
            "false_alarms": {
                "wanted": FALSE_ALARMS,
                "validation_images": self.validation,
                "test_images": self.test,
                "test_alarms": self.alarms,
            },
        }


def fit_to_images(manifest: Manifest, pixels: Pixels, runs_dir: Path) -> FittedNoveltyCheck | None:
    """Fit a novelty check to the training images and count the false alarms on the test images.

    Args:
        manifest: of the run.
        pixels: decodes the images.
        runs_dir: where statistics of images are kept.

    Returns:
        None if there are too few images to say anything.
    """
    splits: tuple[Split, ...] = ("train", "val", "test")
    rows = [_choose_rows(manifest.of(split)) for split in splits]
    kept = KeptStatistics(runs_dir, pixels)
    train, val, test = (kept.measure(part) for part in rows)
    if min(len(train), len(val)) < _MIN_IMAGES:
        return None
    groups = [[row.group for row in part] for part in rows]
    novelty = fit_novelty_check(train, val, groups[0])
    if not len(test):
        return FittedNoveltyCheck(novelty, len(val), 0, 0)
    alarms = novelty.distances_of(test) > novelty.threshold
    held_out = len(train) if len(set(groups[0])) >= FOLDS else 0
    found = (
        find_unlike(alarms, groups[2], len(val) + held_out, FALSE_ALARMS),
        find_difference(train, test, groups[0], groups[2]),
    )
    warnings = tuple(warning for warning in found if warning is not None)
    return FittedNoveltyCheck(novelty, len(val), len(test), int(alarms.sum()), warnings)


def _choose_rows(rows: list[ManifestRow]) -> list[ManifestRow]:
    """Return the rows, or a fixed random choice of many."""
    if len(rows) <= _MAX_IMAGES:
        return rows
    chosen = np.random.default_rng(_SEED).choice(len(rows), _MAX_IMAGES, replace=False)
    return [rows[i] for i in np.sort(chosen)]


def fit_novelty_check(train: NDArray[np.float32], val: NDArray[np.float32], groups: Sequence[str]) -> NoveltyCheck:
    """Fit centre and spread to training images, and choose the threshold on images that were not fitted to.

    These are the validation images and, since those are often few, the training images too: each fifth of them, whole
    groups at a time, is measured by what the other four fifths look like.

    Args:
        train: statistics, float32, shape (images, statistics).
        val: the same of other images.
        groups: of each training image, such as the patient.
    """
    center, whitening = _fit(train)
    untested = NoveltyCheck(center, whitening, math.inf)
    distances = np.concatenate([untested.distances_of(val), _held_out_distances(train, groups)])
    return NoveltyCheck(center, whitening, choose_threshold(distances))


def _held_out_distances(train: NDArray[np.float32], groups: Sequence[str]) -> NDArray[np.float32]:
    """Return each training image's distance from the training images of other folds, float32, shape (images,)."""
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < FOLDS:
        return np.zeros(0, np.float32)
    folds = np.random.default_rng(_SEED).permutation(len(names))[numbers] % FOLDS
    distances = np.zeros(len(train), np.float32)
    for fold in range(FOLDS):
        center, whitening = _fit(train[folds != fold])
        distances[folds == fold] = NoveltyCheck(center, whitening, math.inf).distances_of(train[folds == fold])
    return distances


def _fit(statistics: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return centre, shape (statistics,), and whitening matrix, shape (statistics, statistics)."""
    from sklearn.covariance import ledoit_wolf

    low, high = np.percentile(statistics, [_TAIL, 100 - _TAIL], axis=0)
    tamed = np.clip(statistics.astype(np.float64), low, high)
    center = tamed.mean(axis=0)
    spread = np.maximum(tamed.std(axis=0), _MIN_SPREAD)
    # In units of their own spread the statistics can be shrunk towards being independent, as few images demand.
    covariance, _ = ledoit_wolf((tamed - center) / spread, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    # A direction that never varied has no variance there; a thousandth of a unit is its floor.
    whitening = (vectors / np.sqrt(np.maximum(values, _MIN_VARIANCE))) / spread[:, None]
    return center.astype(np.float32), whitening.astype(np.float32)


def choose_threshold(distances: NDArray[np.floating]) -> float:
    """Return the distance that about FALSE_ALARMS of ordinary images exceed.

    From 1 / FALSE_ALARMS images on, the order statistic that keeps the promise for exchangeable images (conformal
    prediction). With fewer, the images say nothing about a tail that thin: the upper prediction limit of a log-normal
    distribution, at least the largest distance seen.
    """
    ordered = np.sort(distances.astype(np.float64))
    count = len(ordered)
    rank = math.ceil((count + 1) * (1 - FALSE_ALARMS))
    if rank <= count:
        return float(ordered[rank - 1])
    logs = np.log(np.maximum(ordered, 1e-9))
    quantile = stats.t.ppf(1 - FALSE_ALARMS, count - 1) * math.sqrt(1 + 1 / count)
    return float(max(ordered[-1], math.exp(logs.mean() + quantile * logs.std(ddof=1))))
