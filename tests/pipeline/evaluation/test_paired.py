"""pipeline/evaluation/paired.py: the gate's evidence, and its resampled metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.paired import Comparison, compare_predictions
from pipeline.metrics.table import Predictions, find_metric, metric_names, metrics_in


def predictions(right: np.ndarray, *, sure: float = 0.9) -> Predictions:
    """Return answers of ten classes, right where `right` says so."""
    targets = np.arange(len(right)) % 10
    said = np.where(right, targets, (targets + 1) % 10)
    probabilities = np.full((len(right), 10), (1 - sure) / 9, np.float32)
    probabilities[np.arange(len(right)), said] = sure
    return Predictions(probabilities, targets)


def compare(before: Predictions, after: Predictions, metric: str = "accuracy", margin: float = 0.02) -> Comparison:
    groups = [str(i) for i in range(len(before.targets))]
    return compare_predictions(before, after, groups, metric=find_metric(metric), margin=margin)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "matthews_correlation", "brier", "log_loss"])
def test_sure_loss_within_the_margin_is_worse(metric: str) -> None:
    """0.9896 to 0.9854 on 10,000 shared images: 70 lost, 28 won, McNemar's p 2e-5, in each metric of the gate."""
    rng = np.random.default_rng(0)
    before = np.ones(10_000, bool)
    before[rng.permutation(10_000)[:104]] = False
    after = before.copy()
    after[rng.permutation(np.flatnonzero(before))[:70]] = False
    after[rng.permutation(np.flatnonzero(~before))[:28]] = True
    assert (9896, 9854) == (before.sum(), after.sum())

    compared = compare(predictions(before), predictions(after), metric)

    assert ("worse", False) == (compared.evidence, compared.passes)
    if "accuracy" in metric:
        assert compared.interval is not None
        assert -0.0042 == pytest.approx(compared.gain, abs=1e-9)
        assert -0.02 < compared.interval[0] < -0.0042 < compared.interval[1] < -0.001

    assert ("not worse", True) == (
        compare(predictions(after), predictions(before), metric).evidence,
        compare(predictions(after), predictions(before), metric).passes,
    )


def test_same_answers_of_two_engines_are_not_worse() -> None:
    """Every probability strays by less than engines may; the loss is higher, for certain, by nothing."""
    right = np.ones(300, bool)
    compared = compare(predictions(right), predictions(right, sure=0.89998), "log_loss")

    assert -3e-5 < compared.gain < -1e-5
    assert "worse" != compared.evidence
    assert compared.passes


@pytest.mark.parametrize(
    ("gain", "interval", "evidence", "passes"),
    [
        (-0.01, (-0.018, -0.002), "worse", False),
        (-0.01, (-0.019, 0.0), "not worse", True),
        (-0.01, (-0.03, 0.01), "undecided", True),
        (-0.02, (-0.05, 0.01), "undecided", True),
        (-0.021, (-0.05, 0.01), "undecided", False),
        (-0.02, None, "undecided", True),
        (math.nan, None, "undecided", False),
        (0.05, (0.01, 0.09), "not worse", True),
    ],
)
def test_evidence(gain: float, interval: tuple[float, float] | None, evidence: str, passes: bool) -> None:
    """The interval decides what it can; the margin the rest; a metric that is not a number passes nothing."""
    compared = Comparison(0.9, 0.9 + gain, 100, 100, 0.02, gain, interval)

    assert (evidence, passes) == (compared.evidence, compared.passes)


@pytest.mark.parametrize("name", metric_names("gate"))
def test_resampled_metric_is_the_metric_of_the_resample(name: str) -> None:
    """Weights of 1 give the metric itself; other weights give the metric of images that stand there so often."""
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(4), 60).astype(np.float32)
    drawn = Predictions(probabilities, rng.integers(0, 4, 60))
    weights = next(GroupBootstrap([str(i // 2) for i in range(60)], resamples=5).weights())
    weights[0] = 1
    metric = find_metric(name)

    values = metric.compute_resampled(drawn, weights)

    assert metric.compute(drawn) == pytest.approx(values[0], abs=1e-5)
    for row, value in zip(weights, values, strict=True):
        repeated = np.repeat(np.arange(60), row.astype(int))
        expected = metric.compute(Predictions(drawn.probabilities[repeated], drawn.targets[repeated]))
        assert expected == pytest.approx(value, abs=1e-5)


def test_every_metric_of_the_gate_can_be_resampled() -> None:
    """A metric that a recipe may choose has an interval; another one says that it has none."""
    assert all(metric.weighted is not None for metric in metrics_in("gate"))
    with pytest.raises(ValueError, match="macro_f1: expected a metric with `weighted`"):
        find_metric("macro_f1").compute_resampled(predictions(np.ones(10, bool)), np.ones((1, 10), np.float32))
