"""calibration.py and operating_points.py: probabilities that mean what they say, thresholds that hold."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.calibration import TEMPERATURES, fit_temperature, softmax
from pipeline.evaluation.operating_points import apply_threshold, choose_points, choose_threshold
from pipeline.metrics.reliability import reliability
from pipeline.metrics.table import Predictions
from pipeline.recipe.evaluate_settings import OperatingPointRule


def overconfident(images: int, *, factor: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits `factor` times as large as what the targets were drawn with."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (images, 3)).astype(np.float32)
    targets = np.array([rng.choice(3, p=row / row.sum()) for row in softmax(logits, 1.0).astype(np.float64)])
    return factor * logits, targets


def test_temperature_undoes_overconfidence() -> None:
    """Logits three times too large get a temperature near 3, and the calibration error falls."""
    logits, targets = overconfident(3000, factor=3.0)

    temperature = fit_temperature(logits, targets)

    assert 3.0 == pytest.approx(temperature, rel=0.15)
    before, after = (reliability(softmax(logits, t), targets) for t in (1.0, temperature))
    assert after["expected_calibration_error"] < 0.25 * before["expected_calibration_error"]


@pytest.mark.parametrize(("factor", "expected"), [(100.0, 10.0), (0.01, 0.5)], ids=["upper", "lower"])
def test_temperature_stays_in_its_range(factor: float, expected: float) -> None:
    """However wrong the logits are, the temperature is within [0.5, 10]."""
    logits, targets = overconfident(200, factor=factor)

    temperature = fit_temperature(logits, targets)

    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    assert expected == pytest.approx(temperature, rel=0.01)


@pytest.mark.parametrize(("images", "fitted"), [(49, False), (50, True)])
def test_few_images_fit_no_temperature(images: int, fitted: bool) -> None:
    """Below 50 validation images the temperature is 1."""
    logits, targets = overconfident(images, factor=5.0)

    assert fitted == (fit_temperature(logits, targets) != 1.0)


def test_reliability_by_hand() -> None:
    """Two bins: one right of two at 0.9, one right of one at 0.5."""
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]], np.float32)

    result = reliability(probabilities, np.array([0, 0, 0]))

    assert [(1.0, 1), (0.5, 2)] == [(found["accuracy"], found["images"]) for found in result["bins"]]
    assert (0.5 + 2 * 0.4) / 3 == pytest.approx(result["expected_calibration_error"], abs=1e-6)


SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], np.float32)
POSITIVE = np.array([0, 0, 1, 0, 0, 1, 1, 1], np.bool_)


@pytest.mark.parametrize(
    ("wanted", "threshold", "reached"),
    [
        pytest.param({"sensitivity": 1.0}, 0.25, (1.0, 0.5), id="find-all"),
        pytest.param({"sensitivity": 0.75}, 0.65, (0.75, 1.0), id="find-most"),
        pytest.param({"specificity": 1.0}, 0.65, (0.75, 1.0), id="spare-all"),
        pytest.param({"specificity": 0.5}, 0.25, (1.0, 0.5), id="spare-half"),
        pytest.param({"specificity": 0.0}, 0.05, (1.0, 0.0), id="call-all"),
    ],
)
def test_threshold_meets_the_rule_with_the_least_loss(
    wanted: dict[str, float], threshold: float, reached: tuple[float, float]
) -> None:
    """It lies halfway between two images and gives away no more of the other rate than it must."""
    chosen = choose_threshold(SCORES, POSITIVE, OperatingPointRule(label="a", **wanted))

    assert chosen is not None
    assert threshold == pytest.approx(chosen)
    assert reached == apply_threshold(SCORES, POSITIVE, chosen)


def test_impossible_threshold_is_none() -> None:
    """A negative image with probability 1 cannot be spared by any threshold in [0, 1]."""
    rule = OperatingPointRule(label="a", specificity=1.0)

    assert choose_threshold(np.array([0.5, 1.0], np.float32), np.array([True, False]), rule) is None


def test_points_are_chosen_on_validation_and_reported_on_test() -> None:
    """The threshold depends on validation images alone; the rates in the contract are the test images'."""
    validation = Predictions(np.stack([SCORES, 1 - SCORES], axis=1), np.where(POSITIVE, 0, 1))
    test = Predictions(np.array([[0.3, 0.7], [0.9, 0.1], [0.1, 0.9]], np.float32), np.array([0, 0, 1]))

    points, warnings = choose_points(
        [OperatingPointRule(label="a", sensitivity=0.75)],
        ["a", "b"],
        validation=validation,
        test=test,
        groups=GroupBootstrap(["P1", "P1", "P2"]),
    )

    (point,) = (point.document() for point in points)
    assert 0.65 == pytest.approx(point["threshold"])
    assert {"sensitivity": 0.75, "specificity": 1.0} == point["validation"]
    assert (0.5, 1.0) == (point["sensitivity"], point["specificity"])
    assert {"sensitivity": 0.75} == point["wanted"]
    assert (1, 1) == (point["positive_groups"], point["negative_groups"])
    assert ["rests on 4 validation images" in warning for warning in warnings] == [True]


def test_class_without_validation_images_gets_a_warning() -> None:
    """No threshold is made up."""
    predictions = Predictions(np.array([[0.3, 0.7]], np.float32), np.array([1]))

    points, warnings = choose_points(
        [OperatingPointRule(label="a", sensitivity=0.9)],
        ["a", "b"],
        validation=predictions,
        test=predictions,
        groups=GroupBootstrap(["P1"]),
    )

    assert [] == points
    assert "No threshold for a" in warnings[0]
