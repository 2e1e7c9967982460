"""Test-time augmentation: probabilities averaged over an image and views of it, measured beside plain ones."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from pipeline.augmentation.augment import make_augmentation
from pipeline.data.lineage import trained_augmentation
from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.paired import compare_predictions
from pipeline.metrics.table import Metric, Predictions, metrics_in
from pipeline.recipe.augment_settings import Augment

LEAST_VIEWS, MOST_VIEWS = 2, 64
Score = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass
class ViewTimes:
    """Seconds of computation.

    Attributes:
        images: how many were computed.
        plain: for the images alone.
        all: for all their views, drawing included.
    """

    images: int = 0
    plain: float = 0.0
    all: float = 0.0


class ViewAverage:
    """Averages probabilities over an image and views of it that the training's augmentation draws.

    A view depends on the seed, its number and the image's pixels alone. Its pixels are rounded to whole grey levels,
    which is what versions take.

    Args:
        settings: the augmentation.
        seed: of the draws.
        count: views of each image, the image itself included.

    Attributes:
        times: of all calls so far.
    """

    def __init__(self, settings: Augment, seed: int, count: int) -> None:
        self.count = count
        self.times = ViewTimes()
        self._augmentation = make_augmentation(settings, seed)

    def __call__(self, score: Score, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities of the images alone, and averaged over all views.

        Args:
            score: from uint8 images, shape (batch, height, width, channels), to probabilities (batch, classes).
            images: such images.
        """
        start = time.perf_counter()
        plain = score(images)
        self.times.plain += time.perf_counter() - start
        keys = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        total = plain.astype(np.float64)
        for number in range(1, self.count):
            changed = self._augmentation.finish(*self._augmentation.prepare(images, keys, number))
            total += score(np.clip(np.rint(np.asarray(changed)), 0, 255).astype(np.uint8))
        self.times.all += time.perf_counter() - start
        self.times.images += len(images)
        return plain, (total / self.count).astype(np.float32)


def views_of_version(contract: ModelContract, count: int | None) -> ViewAverage | None:
    """Return the test-time augmentation of a published version: the one that it was trained with.

    Args:
        contract: of the version.
        count: views of each image; None: no augmentation.

    Raises:
        PipelineError: if the contract has no augmentation, or one that changes nothing.
    """
    if count is None:
        return None
    found = trained_augmentation(contract)
    if found is None:
        raise PipelineError("--tta: expected a version whose contract has the recipe that it was trained by")
    settings, seed = found
    if not settings.changes_images:
        raise PipelineError(
            "--tta: expected a version that was trained with augmentation: all views of an image would be the same. "
            "Received: one whose recipe changes no images"
        )
    return ViewAverage(settings, seed, count)


def measure_views(
    views: ViewAverage,
    plain: Predictions,
    averaged: Predictions,
    groups: Sequence[str],
) -> dict[str, Any]:
    """Return what metrics.json and the report say of test-time augmentation, side by side with plain predictions.

    Args:
        views: that has made the averages.
        plain: of the images alone.
        averaged: over the views.
        groups: of the images.
    """
    metrics, bootstrap = {}, GroupBootstrap(groups)
    for metric in metrics_in("gate"):
        found = compare_predictions(plain, averaged, groups, metric=metric, margin=0.0)
        metrics[metric.name] = {
            "plain": found.before,
            "plain_interval": _interval(metric, plain, bootstrap),
            "averaged": found.after,
            "averaged_interval": _interval(metric, averaged, bootstrap),
            "gain": found.gain,
            "gain_interval": None if found.interval is None else list(found.interval),
        }
    times, changed = views.times, plain.probabilities.argmax(axis=1) != averaged.probabilities.argmax(axis=1)
    return {
        "views": views.count,
        "images": len(plain.targets),
        "changed_class": int(changed.sum()),
        "metrics": metrics,
        "milliseconds": {
            "plain": round(1000 * times.plain / times.images, 3),
            "averaged": round(1000 * times.all / times.images, 3),
        },
    }


def _interval(metric: Metric, predictions: Predictions, bootstrap: GroupBootstrap) -> list[float] | None:
    return bootstrap.interval(lambda weights: metric.compute_resampled(predictions, weights), bounds=metric.bounds)
