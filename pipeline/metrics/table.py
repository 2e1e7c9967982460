"""The metrics of a classifier: an entry of METRICS holds a metric's name, function, direction, format and places.

metrics.json, `evaluate` and `compare` have every entry; `places` names the other readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.reliability import reliability

# gate: a value of evaluate.gate.metric. report: the report's headline. contract: `provenance.metrics` of the contract,
# shown by `models --json` and the web page. models: a column of `models`.
Place = Literal["gate", "report", "contract", "models"]
Rate = Literal["precision", "recall", "f1"]
Format = Literal["percent", "decimals", "number"]  # 93.1 %; 0.931; three significant digits


@dataclass(frozen=True)
class Predictions:
    """Probabilities of labelled images.

    Attributes:
        probabilities: shape (images, classes), rows summing to 1.
        targets: class indices, shape (images,).
    """

    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        """True where the most probable class is the target, shape (images,)."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.targets)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, shape (classes, classes); rows are true classes, columns predicted ones."""
        num_classes = self.probabilities.shape[1]
        confusion = np.zeros((num_classes, num_classes), np.int64)
        np.add.at(confusion, (self.targets, self.probabilities.argmax(axis=1)), 1)
        return confusion


@dataclass(frozen=True)
class Metric:
    """One number for a set of predictions.

    Attributes:
        name: the key in metrics.json and in a recipe.
        title: the name in the report.
        note: the range or meaning, in a few words for the report.
        compute: returns the value; at least one image is given.
        places: readers that show it.
        format: in the report.
        lower_is_better: the direction.
        per_image: values whose mean is the metric, for a metric with a bootstrap interval, `<name>_interval`.
    """

    name: str
    title: str
    note: str
    compute: Callable[[Predictions], float]
    places: frozenset[Place]
    format: Format = "decimals"
    lower_is_better: bool = False
    per_image: Callable[[Predictions], NDArray[np.bool_]] | None = None

    @property
    def words(self) -> str:
        """The name on a terminal."""
        return self.name.replace("_", " ")


def metrics_in(place: Place) -> tuple[Metric, ...]:
    """Return the metrics that a place shows, in the table's order."""
    return tuple(metric for metric in METRICS if place in metric.places)


def metric_names(place: Place) -> tuple[str, ...]:
    """Return the names of the metrics that a place shows."""
    return tuple(metric.name for metric in metrics_in(place))


def find_metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises:
        KeyError: if the table has none of this name.
    """
    return {metric.name: metric for metric in METRICS}[name]


def _hits(predictions: Predictions) -> NDArray[np.bool_]:
    return predictions.hits


def _accuracy(predictions: Predictions) -> float:
    return float(predictions.hits.mean())


def _balanced_accuracy(predictions: Predictions) -> float:
    """Return the mean recall of the classes that occur."""
    supports = predictions.confusion.sum(axis=1)
    occurs = supports > 0
    return float(np.mean(predictions.confusion.diagonal()[occurs] / supports[occurs]))


def _average(rate: Rate, *, weighted: bool) -> Callable[[Predictions], float]:
    """Return the mean of a class's rate: over classes that occur or are predicted, or weighted by their images.

    A rate without a denominator counts as 0, as in scikit-learn.
    """

    def compute(predictions: Predictions) -> float:
        confusion = predictions.confusion
        hits, supports, called = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
        numerator, denominator = {
            "precision": (hits, called),
            "recall": (hits, supports),
            "f1": (2 * hits, called + supports),
        }[rate]
        rates = numerator / np.maximum(denominator, 1)
        return float(np.average(rates, weights=supports if weighted else called + supports > 0))

    return compute


def _matthews_correlation(predictions: Predictions) -> float:
    """Return Gorodkin's multi-class coefficient; 0 where all images or all predictions are of one class."""
    confusion = predictions.confusion.astype(np.float64)
    true, predicted, images = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    covariance = images * confusion.trace() - true @ predicted
    variances = (images**2 - true @ true) * (images**2 - predicted @ predicted)
    return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0


def _brier(predictions: Predictions) -> float:
    """Return the multi-class Brier score."""
    probabilities = predictions.probabilities
    wanted = np.eye(probabilities.shape[1])[predictions.targets]
    return float(((probabilities - wanted) ** 2).sum(axis=1).mean())


def _log_loss(predictions: Predictions) -> float:
    rows = np.arange(len(predictions.targets))
    chosen = predictions.probabilities[rows, predictions.targets].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def _calibration_error(predictions: Predictions) -> float:
    return float(reliability(predictions.probabilities, predictions.targets)["expected_calibration_error"])


METRICS: tuple[Metric, ...] = (
    Metric(
        "accuracy",
        "accuracy",
        "share of images that are right",
        _accuracy,
        frozenset({"gate", "report", "contract", "models"}),
        format="percent",
        per_image=_hits,
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "mean recall of the classes",
        _balanced_accuracy,
        frozenset({"gate", "report", "contract"}),
        format="percent",
    ),
    Metric(
        "matthews_correlation",
        "Matthews correlation",
        "1 best, 0 chance",
        _matthews_correlation,
        frozenset({"gate", "report", "contract"}),
    ),
    Metric(
        "brier",
        "Brier score",
        "0 best, 2 worst",
        _brier,
        frozenset({"gate", "report", "contract"}),
        format="number",
        lower_is_better=True,
    ),
    Metric("log_loss", "log loss", "0 best", _log_loss, frozenset({"gate"}), format="number", lower_is_better=True),
    Metric(
        "expected_calibration_error",
        "calibration error",
        "0 best",
        _calibration_error,
        frozenset({"report"}),
        format="number",
        lower_is_better=True,
    ),
    Metric(
        "macro_precision",
        "macro precision",
        "mean of the classes",
        _average("precision", weighted=False),
        frozenset(),
        format="percent",
    ),
    Metric(
        "macro_recall",
        "macro recall",
        "mean of the classes",
        _average("recall", weighted=False),
        frozenset(),
        format="percent",
    ),
    Metric(
        "macro_f1",
        "macro F1",
        "mean of the classes",
        _average("f1", weighted=False),
        frozenset(),
        format="percent",
    ),
    Metric(
        "weighted_precision",
        "weighted precision",
        "mean weighted by images of the class",
        _average("precision", weighted=True),
        frozenset(),
        format="percent",
    ),
    Metric(
        "weighted_recall",
        "weighted recall",
        "mean weighted by images of the class",
        _average("recall", weighted=True),
        frozenset(),
        format="percent",
    ),
    Metric(
        "weighted_f1",
        "weighted F1",
        "mean weighted by images of the class",
        _average("f1", weighted=True),
        frozenset(),
        format="percent",
    ),
)
