"""What the training images look like, for the contract: pictures far from them get a warning when served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from contract.baseline import Baseline, measure_images
from pipeline.pixels import Pixels
from pipeline.split import Manifest, ManifestRow

FALSE_ALARMS = 0.01  # share of ordinary images that may be warned of; what the threshold is chosen for
_MAX_IMAGES = 2000  # of each split; more change nothing
_MIN_IMAGES = 10  # of training and of validation images, below which nothing can be said
_BATCH = 32
_TAIL = 1.0  # percent at either end that does not move the centre or the spread
_MIN_SPREAD = 0.02  # a statistic that hardly varies in training must not make every other picture infinitely far
_SEED = 1


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline, and how often it is wrong.

    Attributes:
        baseline: goes into the contract.
        validation: images that the threshold was chosen on.
        test: test images that were measured.
        alarms: how many of these are called unlike the training images.
    """

    baseline: Baseline
    validation: int
    test: int
    alarms: int

    def document(self) -> dict[str, Any]:
        """Return what contract and metrics.json hold."""
        return {
            **self.baseline.document(),
            "false_alarms": {
                "wanted": FALSE_ALARMS,
                "validation_images": self.validation,
                "test_images": self.test,
                "test_alarms": self.alarms,
            },
        }


def fit_to_images(manifest: Manifest, pixels: Pixels) -> FittedBaseline | None:
    """Fit a baseline to the training images; the threshold comes from the validation images, its error from the test's.

    Returns:
        None if there are too few images to say anything.
    """
    train, val, test = (measure_rows(manifest.of(split), pixels) for split in ("train", "val", "test"))
    if min(len(train), len(val)) < _MIN_IMAGES:
        return None
    baseline = fit_baseline(train, val)
    alarms = int((baseline.distances_of(test) > baseline.threshold).sum()) if len(test) else 0
    return FittedBaseline(baseline, len(val), len(test), alarms)


def measure_rows(rows: Sequence[ManifestRow], pixels: Pixels) -> NDArray[np.float32]:
    """Return the statistics of images, or of a fixed random choice of many, float32, shape (images, statistics)."""
    if len(rows) > _MAX_IMAGES:
        chosen = np.random.default_rng(_SEED).choice(len(rows), _MAX_IMAGES, replace=False)
        rows = [rows[i] for i in np.sort(chosen)]
    parts = [measure_images(batch) for batch in pixels.batches([row.path for row in rows], _BATCH)]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def fit_baseline(train: NDArray[np.float32], val: NDArray[np.float32]) -> Baseline:
    """Fit centre and spread to one set of statistics and choose the threshold on another.

    Args:
        train: float32, shape (images, statistics).
        val: the same of other images, of which about FALSE_ALARMS may be beyond the threshold.
    """
    from sklearn.covariance import ledoit_wolf

    low, high = np.percentile(train, [_TAIL, 100 - _TAIL], axis=0)
    tamed = np.clip(train.astype(np.float64), low, high)
    center = tamed.mean(axis=0)
    spread = np.maximum(tamed.std(axis=0), _MIN_SPREAD)
    # In units of their own spread the statistics can be shrunk towards being independent, as few images demand.
    covariance, _ = ledoit_wolf((tamed - center) / spread, assume_centered=True)
    # A statistic that never varied has no variance there either; one unit is its floor.
    covariance += np.diag(np.maximum(0, 1e-3 - np.diag(covariance)))
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(np.maximum(values, 1e-3))) / spread[:, None]
    untested = Baseline(center.astype(np.float32), whitening.astype(np.float32), math.inf)
    return Baseline(untested.center, untested.whitening, choose_threshold(untested.distances_of(val)))


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
