"""Decides whether features at a faster precision keep the validation metric of a head that is trained on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from pipeline.data.split import Manifest, ManifestRow, choose_rows
from pipeline.metrics.table import Predictions, find_metric
from pipeline.recipe.gate_settings import Gate
from pipeline.segments import read_checked, write_checked

MIN_VALIDATION = 64  # images; fewer say too little of a metric
_MOST = 256  # images of each split
_LAST_BITS = 1e-9
VERDICT = ".json"  # ending of a verdict's file


@dataclass(frozen=True)
class FeatureVerdict:
    """A comparison of two linear heads: on features at a faster precision, and at float32.

    Both are judged by float32 features of validation images, as the published network is float32's.

    Attributes:
        precision: the faster one.
        kept: whether its features may train the head.
        metric: of the gate.
        float32_value: of the head on float32 features.
        value: of the head on the faster ones.
        train_images: that both heads were trained on.
        validation_images: that both were judged by.
    """

    precision: str
    kept: bool
    metric: str
    float32_value: float
    value: float
    train_images: int
    validation_images: int

    def document(self) -> dict[str, Any]:
        """Return what metrics.json and the contract hold: numbers of six significant digits."""
        return {key: float(f"{v:.6g}") if isinstance(v, float) else v for key, v in asdict(self).items()}

    @property
    def words(self) -> str:
        """The outcome in a line."""
        name = find_metric(self.metric).words
        outcome = "keep" if self.kept else "do not keep"
        return (
            f"features at {self.precision} {outcome} the {name} of a linear head in validation: {self.value:.4f}, "
            f"{self.float32_value:.4f} at float32"
        )


@dataclass(frozen=True)
class Sample:
    """Images that the precisions of features are compared by.

    Attributes:
        training: their rows.
        validation: their rows.
    """

    training: tuple[ManifestRow, ...]
    validation: tuple[ManifestRow, ...]

    @property
    def rows(self) -> tuple[ManifestRow, ...]:
        """All rows, those of training first."""
        return (*self.training, *self.validation)


def write_verdict(folder: Path, verdict: FeatureVerdict) -> None:
    """Keep a verdict beside the features that it was reached by; where it cannot be written, the next run judges."""
    with suppress(OSError):
        write_checked(folder, VERDICT, json.dumps(verdict.document()).encode())


def read_verdict(folder: Path, gate: Gate) -> FeatureVerdict | None:
    """Return the latest verdict of a folder by the gate's metric, with its margin; None where there is none."""
    for path in sorted(folder.glob(f"*{VERDICT}"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            found = FeatureVerdict(**json.loads(read_checked(path)))
        except (OSError, ValueError, TypeError):
            continue
        if found.metric == gate.metric:
            kept = _is_kept(found.float32_value, found.value, gate, found.validation_images)
            return replace(found, kept=kept)
    return None


def choose_sample(manifest: Manifest, *, seed: int) -> Sample | None:
    """Choose training and validation images by seed; None where they are too few to compare by."""
    training, validation = (tuple(choose_rows(manifest.of(split), _MOST, seed=seed)) for split in ("train", "val"))
    if len(validation) < MIN_VALIDATION or len({row.label for row in training}) < 2:
        return None
    return Sample(training, validation)


def compare_features(
    precision: str,
    sample: Sample,
    labels: Sequence[str],
    features: NDArray[Any],
    expected: NDArray[Any],
    gate: Gate,
) -> FeatureVerdict:
    """Train a linear head on features of each precision, and judge both by float32 features of validation images.

    Args:
        precision: the faster one.
        sample: the images.
        labels: class names; position is the class index.
        features: at that precision, of all rows of the sample, shape (images, *features).
        expected: the same at float32.
        gate: its metric and its margin, beside one image, may be lost.
    """
    split = len(sample.training)
    classes = np.array([labels.index(row.label) for row in sample.rows])
    fast, exact = (np.asarray(values, np.float64).reshape(len(values), -1) for values in (features, expected))
    centre, spread = exact[:split].mean(axis=0), exact[:split].std(axis=0) + 1e-6
    fast, exact = (fast - centre) / spread, (exact - centre) / spread
    metric = find_metric(gate.metric)
    value, before = (
        metric.compute(
            Predictions(_predict(train[:split], classes[:split], exact[split:], len(labels)), classes[split:])
        )
        for train in (fast, exact)
    )
    kept = _is_kept(before, value, gate, len(sample.validation))
    return FeatureVerdict(precision, kept, gate.metric, before, value, split, len(sample.validation))


def _is_kept(before: float, value: float, gate: Gate, images: int) -> bool:
    lost = value - before if find_metric(gate.metric).lower_is_better else before - value
    return bool(lost <= gate.margin + 1 / images + _LAST_BITS)


def _predict(
    features: NDArray[np.float64], classes: NDArray[np.int64], others: NDArray[np.float64], num_classes: int
) -> NDArray[np.float32]:
    """Return a linear head's probabilities of other images; 0 for classes that it was not shown."""
    head = LogisticRegression(max_iter=200).fit(features, classes)
    probabilities = np.zeros((len(others), num_classes), np.float32)
    probabilities[:, head.classes_] = head.predict_proba(others)
    return probabilities
