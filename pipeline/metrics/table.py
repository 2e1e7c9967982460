"""The metrics of a classifier: an entry of METRICS holds a metric's name, function, direction, format and places.

metrics.json, `evaluate` and `compare` have every entry; `places` names the other readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.reliability import reliability

# gate: a value of evaluate.gate.metric. report: the report's headline. contract: `provenance.metrics` of the contract,
# shown by `models --json` and the web page. models: a column of `models`.
Place = Literal["gate", "report", "contract", "models"]
Rate = Literal["precision", "recall", "f1"]
Format = Literal["percent", "decimals", "number"]  # 93.1 %; 0.931; three significant digits
Weights = NDArray[np.float32]
Values = NDArray[np.float64]

_LEAST_PROBABILITY = 1e-12  # of the log loss


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
        weighted: the metric of resampled images, from weights (resamples, images) to values (resamples,); a metric of
            the gate has one.
        bounds: least and greatest value.
    """

    name: str
    title: str
    note: str
    compute: Callable[[Predictions], float]
    places: frozenset[Place]
    format: Format = "decimals"
    lower_is_better: bool = False
    per_image: Callable[[Predictions], NDArray[np.bool_]] | None = None
    weighted: Callable[[Predictions, Weights], Values] | None = None
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def words(self) -> str:
        """The name on a terminal."""
        return self.name.replace("_", " ")

    def compute_resampled(self, predictions: Predictions, weights: Weights) -> Values:
        """Return the metric of each resample, shape (resamples,).

        Args:
            predictions: of all images.
            weights: how often each resample has each image, shape (resamples, images).

        Raises:
            ValueError: if the metric is none of the gate's.
        """
        if self.weighted is None:
            raise ValueError(f"{self.name}: expected a metric with `weighted`")
        return self.weighted(predictions, weights)


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


def _briers(predictions: Predictions) -> Values:
    """Return the multi-class Brier score of each image."""
    probabilities = predictions.probabilities
    wanted = np.eye(probabilities.shape[1])[predictions.targets]
    return np.asarray(((probabilities - wanted) ** 2).sum(axis=1), np.float64)


def _log_losses(predictions: Predictions) -> Values:
    rows = np.arange(len(predictions.targets))
    chosen = predictions.probabilities[rows, predictions.targets].astype(np.float64)
    return np.asarray(-np.log(np.maximum(chosen, _LEAST_PROBABILITY)))


def _mean(per_image: Callable[[Predictions], NDArray[Any]]) -> Callable[[Predictions], float]:
    return lambda predictions: float(per_image(predictions).mean())


def _weighted_mean(per_image: Callable[[Predictions], NDArray[Any]]) -> Callable[[Predictions, Weights], Values]:
    def compute(predictions: Predictions, weights: Weights) -> Values:
        values = per_image(predictions).astype(np.float32)
        return np.asarray((weights @ values) / weights.sum(axis=1), np.float64)

    return compute


def resample_recalls(predictions: Predictions, weights: Weights) -> Values:
    """Return the recall of each class in each resample, shape (resamples, classes); NaN where a class does not occur.

    Args:
        predictions: of all images.
        weights: how often each resample has each image, shape (resamples, images).
    """
    num_classes = predictions.probabilities.shape[1]
    supports = _sum_by_class(weights, predictions.targets, num_classes)
    hits = _sum_by_class(weights * predictions.hits, predictions.targets, num_classes)
    return np.where(supports > 0, hits / np.maximum(supports, 1), np.nan)


def _weighted_balanced_accuracy(predictions: Predictions, weights: Weights) -> Values:
    """Return the mean recall of the classes that occur in each resample."""
    return np.asarray(np.nanmean(resample_recalls(predictions, weights), axis=1))


def _weighted_matthews(predictions: Predictions, weights: Weights) -> Values:
    num_classes, answers = predictions.probabilities.shape[1], predictions.probabilities.argmax(axis=1)
    true = _sum_by_class(weights, predictions.targets, num_classes)
    predicted = _sum_by_class(weights, answers, num_classes)
    trace = (weights @ predictions.hits.astype(np.float32)).astype(np.float64)
    images = true.sum(axis=1)
    covariance = images * trace - (true * predicted).sum(axis=1)
    variances = (images**2 - (true**2).sum(axis=1)) * (images**2 - (predicted**2).sum(axis=1))
    return np.where(variances > 0, covariance / np.sqrt(np.maximum(variances, 1)), 0.0)


def _sum_by_class(weights: Weights, classes: NDArray[np.int64], num_classes: int) -> Values:
    """Return the weights of each class's images together, shape (resamples, classes)."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    sums = np.zeros((len(weights), num_classes))
    sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


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
        weighted=_weighted_mean(_hits),
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "mean recall of the classes",
        _balanced_accuracy,
        frozenset({"gate", "report", "contract"}),
        format="percent",
        weighted=_weighted_balanced_accuracy,
    ),
    Metric(
        "matthews_correlation",
        "Matthews correlation",
        "1 best, 0 chance",
        _matthews_correlation,
        frozenset({"gate", "report", "contract"}),
        weighted=_weighted_matthews,
        bounds=(-1.0, 1.0),
    ),
    Metric(
        "brier",
        "Brier score",
        "0 best, 2 worst",
        _mean(_briers),
        frozenset({"gate", "report", "contract"}),
        format="number",
        lower_is_better=True,
        weighted=_weighted_mean(_briers),
        bounds=(0.0, 2.0),
    ),
    Metric(
        "log_loss",
        "log loss",
        "0 best",
        _mean(_log_losses),
        frozenset({"gate"}),
        format="number",
        lower_is_better=True,
        weighted=_weighted_mean(_log_losses),
        bounds=(0.0, float(-np.log(_LEAST_PROBABILITY))),
    ),
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
