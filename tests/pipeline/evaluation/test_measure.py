"""metrics.py, bootstrap.py, ranking.py and positive_class.py against scikit-learn, by hand and by simulation."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from pipeline.evaluation.bootstrap import GroupBootstrap, exact_interval
from pipeline.evaluation.measure import measure
from pipeline.evaluation.positive_class import measure_positive_class
from pipeline.evaluation.ranking import Ranking, draw_curves
from pipeline.recipe.evaluate_settings import Evaluate

LABELS = ["glaucoma", "normal", "suspect"]


def predictions(images: int = 200, *, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities that know something of the targets; rounded, so that some are equal."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, images)
    logits = rng.normal(0, 1, (images, 3)) + 1.2 * np.eye(3)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = np.round(probabilities, 2)
    return (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32), targets


def test_classes_are_measured_as_scikit_learn_does() -> None:
    """Precision, recall, F1, support, AUC and average precision of every class are scikit-learn's."""
    probabilities, targets = predictions()

    result = measure(probabilities, targets, LABELS)

    expected = precision_recall_fscore_support(targets, probabilities.argmax(axis=1))
    for i, label in enumerate(LABELS):
        actual = result["classes"][label]
        assert [column[i] for column in expected] == pytest.approx(
            [actual[key] for key in ("precision", "recall", "f1", "support")]
        )
        assert roc_auc_score(targets == i, probabilities[:, i]) == pytest.approx(actual["auc"])
        assert average_precision_score(targets == i, probabilities[:, i]) == pytest.approx(actual["average_precision"])
        low, high = actual["auc_interval"]
        assert low < actual["auc"] < high


def test_overall_numbers_by_hand() -> None:
    """Four images, one wrong: accuracy, balanced accuracy, Brier score, confusion and its rates."""
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], np.float32)
    targets = np.array([0, 0, 1, 1])

    result = measure(probabilities, targets, ["a", "b"])

    assert 4 == result["images"] == result["groups"]
    assert 0.75 == result["accuracy"] == result["balanced_accuracy"]
    assert (2 * (0.2**2 + 0.4**2 + 0.3**2 + 0.9**2) / 4) == pytest.approx(result["brier"])
    assert [[2, 0], [1, 1]] == result["confusion"]
    assert [[1.0, 0.0], [0.5, 0.5]] == result["confusion_rates"]
    gap = abs(0.8 - 1) + abs(0.6 - 1) + abs(0.7 - 1) + abs(0.9 - 0)
    assert gap / 4 == pytest.approx(result["expected_calibration_error"])


def test_class_without_test_images_has_no_values() -> None:
    """What cannot be computed is None, never 0, and does not count in the balanced accuracy."""
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], np.float32)

    result = measure(probabilities, np.array([0, 1]), LABELS)

    suspect = result["classes"]["suspect"]
    assert (None, None, None, None, 0) == tuple(suspect[k] for k in ("precision", "recall", "f1", "auc", "support"))
    assert 1.0 == result["balanced_accuracy"]
    assert result["confusion_rates"][2] is None


def test_interval_widens_with_the_group_size() -> None:
    """Ten copies of every image, as one group each, give the interval of the images, not a narrower one."""
    probabilities, targets = predictions(60)
    copies = np.repeat(np.arange(60), 10)

    single = measure(probabilities, targets, LABELS)
    grouped = measure(probabilities[copies], targets[copies], LABELS, [f"P{i:03}" for i in copies])
    naive = measure(probabilities[copies], targets[copies], LABELS)

    def width(result: dict[str, object]) -> float:
        low, high = result["accuracy_interval"]  # type: ignore[misc]
        return float(high - low)

    assert 60 == grouped["groups"]
    assert width(single) == pytest.approx(width(grouped), abs=0.02)
    assert width(naive) < 0.5 * width(grouped)


def test_interval_is_repeatable() -> None:
    """The same seed gives the same interval, another seed another one."""
    probabilities, targets = predictions(80)

    first, again, other = (measure(probabilities, targets, LABELS, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first["accuracy_interval"] != other["accuracy_interval"]


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over 100 simulated test sets of 60 patients with 1 to 5 images each, 95 % intervals hold the true accuracy."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 6, 60)
        right = np.repeat(rng.random(60) < 0.8, sizes)  # all images of a patient share their fate
        groups = [f"P{i}" for i in np.repeat(np.arange(60), sizes)]
        bootstrap = GroupBootstrap(groups, seed=seed, resamples=300)
        interval = bootstrap.interval(lambda weights, right=right: (weights @ right) / weights.sum(axis=1))
        assert interval is not None
        held += interval[0] <= 0.8 <= interval[1]

    assert 88 <= held


def test_one_group_has_no_interval() -> None:
    """Four images of one patient say nothing about other patients."""
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], np.float32)

    result = measure(probabilities, np.array([0, 0, 1, 1]), ["a", "b"], ["P1"] * 4)

    assert result["accuracy_interval"] is None
    assert result["classes"]["a"]["auc_interval"] is None


def test_interval_needs_a_value_in_half_of_the_draws() -> None:
    """A statistic that has no value in most draws, such as an AUC without positives, gets no interval."""
    bootstrap = GroupBootstrap(["P1", "P2", "P3"], resamples=100)

    assert bootstrap.interval(lambda weights: np.full(len(weights), np.nan)) is None
    few = bootstrap.interval(lambda weights: np.where(np.arange(len(weights)) < 50, 1.0, np.nan))
    assert [0.025 ** (1 / 3), 1.0] == pytest.approx(few)


@pytest.mark.parametrize("trials", [2, 3, 16, 100, 10_000])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_exact_interval_of_a_share_is_clopper_and_pearsons(value: float, trials: int) -> None:
    """At 0 and 1 it is SciPy's exact interval; 16 of 16 is [0.794, 1]."""
    expected = binomtest(int(value * trials), trials).proportion_ci(0.95, "exact")

    assert [expected.low, expected.high] == pytest.approx(exact_interval(value, trials))


def test_exact_interval_stays_within_its_bounds() -> None:
    """Between the ends it opens to both sides; a difference reaches from -1 to 1."""
    others = 1 - 0.025 ** (1 / 16)

    assert [0.5 - others / 2, 0.5 + others / 2] == pytest.approx(exact_interval(0.5, 16))
    assert [-others, others] == pytest.approx(exact_interval(0.0, 16, (-1.0, 1.0)))
    assert [1 - 2 * others, 1.0] == pytest.approx(exact_interval(1.0, 16, (-1.0, 1.0)))


def separated(images: int, *, right: bool = True) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Predictions of two classes in turn, all right or all wrong."""
    targets = np.arange(images) % 2
    said = targets if right else 1 - targets
    return (0.1 + 0.8 * np.eye(2)[said]).astype(np.float32), targets


@pytest.mark.parametrize(("right", "expected"), [(True, [0.7941, 1.0]), (False, [0.0, 0.2059])])
def test_all_or_none_of_16_images_has_a_width(right: bool, expected: list[float]) -> None:
    """16 of 16 right is [0.794, 1], none is [0, 0.206]; the AUC rests on 8 pairs that share no image."""
    result = measure(*separated(16, right=right), ["a", "b"])

    assert expected == pytest.approx(result["accuracy_interval"], abs=1e-4)
    low = 0.025 ** (1 / 8)
    for values in result["classes"].values():
        assert ([low, 1.0] if right else [0.0, 1 - low]) == pytest.approx(values["auc_interval"], abs=1e-6)
        assert 8 == values["groups"]


def test_perfect_score_of_few_groups_rests_on_the_groups() -> None:
    """16 images of 4 patients, each with both classes: 4 trials for the accuracy, 2 pairs for the AUC."""
    result = measure(*separated(16), ["a", "b"], [f"P{i // 4}" for i in range(16)])

    assert [0.025 ** (1 / 4), 1.0] == pytest.approx(result["accuracy_interval"])
    assert [0.025 ** (1 / 2), 1.0] == pytest.approx(result["classes"]["a"]["auc_interval"])
    assert (4, 4) == (result["groups"], result["classes"]["a"]["groups"])


def test_constant_scores_have_an_auc_with_a_width() -> None:
    """Every draw of equal scores gives 0.5: 8 pairs do not show that all others do."""
    result = measure(np.full((16, 2), 0.5, np.float32), np.arange(16) % 2, ["a", "b"])

    low, high = result["classes"]["a"]["auc_interval"]
    assert low < 0.4 < 0.6 < high


def test_perfect_sensitivity_rests_on_the_positive_groups() -> None:
    """Of 16 images in 16 groups 8 are positive: the interval of their sensitivity is that of 8 of 8."""
    probabilities, targets = separated(16)

    found = measure_positive_class(
        probabilities, targets, ["a", "b"], Evaluate(positive="b"), GroupBootstrap([str(i) for i in range(16)])
    )

    assert found is not None
    (reading,) = found["readings"]
    assert (8, 8) == (reading["positive_groups"], reading["negative_groups"])
    for at in reading["sensitivity_at_specificity"]:
        assert [0.025 ** (1 / 8), 1.0] == pytest.approx(at["sensitivity_interval"])


def test_intervals_can_be_left_out() -> None:
    """Without intervals every other number stays as it is."""
    probabilities, targets = predictions(50)

    full, quick = (measure(probabilities, targets, LABELS, intervals=intervals) for intervals in (True, False))

    assert quick["accuracy_interval"] is None
    assert full["classes"]["normal"]["auc"] == quick["classes"]["normal"]["auc"]
    assert full["confusion"] == quick["confusion"]


def test_weighted_auc_is_scikit_learns() -> None:
    """Every row of weights gives the AUC that scikit-learn computes with these sample weights, ties included."""
    probabilities, targets = predictions(120)
    weights = np.random.default_rng(0).integers(0, 4, (5, 120)).astype(np.float32)

    actual = Ranking(probabilities[:, 0], targets == 0).auc(weights)

    expected = [roc_auc_score(targets == 0, probabilities[:, 0], sample_weight=row) for row in weights]
    assert expected == pytest.approx(list(actual))


@pytest.mark.parametrize("specificity", [0.95, 0.85, 1.0])
def test_sensitivity_at_specificity_is_a_point_of_the_roc_curve(specificity: float) -> None:
    """It is the highest sensitivity among real thresholds whose specificity is at least the wanted one."""
    probabilities, targets = predictions()
    false_positive, true_positive, _ = roc_curve(targets == 0, probabilities[:, 0], drop_intermediate=False)

    actual = Ranking(probabilities[:, 0], targets == 0).sensitivity_at(np.ones((1, 200), np.float32), specificity)

    expected = true_positive[false_positive <= 1 - specificity + 1e-9].max()
    assert expected == pytest.approx(float(actual[0]))


def test_positive_class_counts_the_uncertain_class_both_ways() -> None:
    """Suspect is negative in the first reading, positive in the second, its probability added there."""
    probabilities, targets = predictions()
    settings = Evaluate(positive="glaucoma", uncertain="suspect", order=("normal", "suspect", "glaucoma"))

    result = measure_positive_class(
        probabilities, targets, LABELS, settings, GroupBootstrap([str(i) for i in range(len(targets))])
    )

    assert result is not None
    negative, positive = result["readings"]
    assert ["glaucoma"] == negative["counted_as_positive"]
    assert ["glaucoma", "suspect"] == positive["counted_as_positive"]
    assert int((targets == 0).sum()) == negative["positives"]
    assert int((targets != 1).sum()) == positive["positives"]
    both = probabilities[:, 0] + probabilities[:, 2]
    assert roc_auc_score(targets != 1, both) == pytest.approx(positive["auc"])
    assert roc_auc_score(targets == 0, probabilities[:, 0], max_fpr=0.1) == pytest.approx(
        negative["partial_auc"], abs=1e-6
    )
    assert [0.95, 0.85] == [at["specificity"] for at in negative["sensitivity_at_specificity"]]
    rank = np.array([2, 0, 1])
    kappa = cohen_kappa_score(rank[targets], rank[probabilities.argmax(axis=1)], weights="quadratic")
    assert kappa == pytest.approx(result["quadratic_kappa"])


def test_without_a_declared_positive_class_there_is_nothing() -> None:
    """Nothing is guessed about which class matters."""
    probabilities, targets = predictions(20)

    assert measure_positive_class(probabilities, targets, LABELS, Evaluate(), GroupBootstrap(["a"] * 20)) is None


def test_last_class_of_an_order_is_the_one_to_find() -> None:
    """An order without a positive class reads its most severe class as positive."""
    assert "glaucoma" == Evaluate(order=("normal", "suspect", "glaucoma")).found_class


def test_curves_start_and_end_in_the_corners() -> None:
    """ROC points run from (0, 0) to (1, 1), at most 200 of them; a class without images has none."""
    probabilities, targets = predictions(1000)

    curves = draw_curves(probabilities[:, 0], targets == 0)

    assert curves is not None
    assert [0.0, 0.0] == curves["roc"][0]
    assert [1.0, 1.0] == curves["roc"][-1]
    assert max(len(points) for points in curves.values()) <= 200
    assert draw_curves(probabilities[:, 0], np.zeros(1000, np.bool_)) is None


def test_thousand_draws_are_fast() -> None:
    """Every interval of 2000 images in three classes takes seconds on a busy machine, not minutes."""
    probabilities, targets = predictions(2000)
    groups = [f"P{i // 2}" for i in range(2000)]

    start = time.process_time()
    measure(probabilities, targets, LABELS, groups)

    assert time.process_time() - start < 10
