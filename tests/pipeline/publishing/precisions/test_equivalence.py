"""precisions/equivalence.py: each condition of the rule for faster precisions, at its limit and beyond."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.split import Manifest, ManifestRow
from pipeline.publishing.precisions.equivalence import (
    MAX_IMAGES,
    Equivalence,
    Evidence,
    Limits,
    changed_bound,
    choose_evidence,
    judge,
)

LIMITS = Limits(tolerance=0.02, metric="accuracy", margin=0.02)
CLOSE = 0.51  # a probability whose gap to the other one is the tolerance


def row(i: int, split: Literal["train", "val", "test"], label: str = "a") -> ManifestRow:
    return ManifestRow(f"{split}/{i:05}.png", f"{i:064x}", label, str(i), split)


def evidence(images: int, *, validation: int = 100) -> Evidence:
    """Images of class 0."""
    rows = tuple(row(i, "val" if i < validation else "train") for i in range(images))
    return Evidence(rows, np.zeros(images, np.int64))


def answers(first: NDArray[np.float64] | list[float]) -> NDArray[np.float32]:
    """Two classes' probabilities, from the first one's."""
    values = np.asarray(first)
    return np.stack([values, 1 - values], axis=1).astype(np.float32)


def compare(
    before: NDArray[np.float64], after: NDArray[np.float64], *, validation: int = 100, limits: Limits = LIMITS
) -> Equivalence:
    return judge(
        "openvino", "bfloat16", evidence(len(before), validation=validation), answers(before), answers(after), limits
    )


@pytest.mark.parametrize(("changed", "images"), [(0, 299), (1, 473), (2, 628), (3, 773)])
def test_the_bound_is_clopper_and_pearsons(changed: int, images: int) -> None:
    """The fewest images at which so many changed predictions stay below 1 %."""
    assert changed_bound(changed, images) <= 0.01 < changed_bound(changed, images - 1)
    assert changed_bound(images, images) == 1.0


def test_the_same_answers_are_equivalent() -> None:
    """Nothing moves: every condition holds, and the document says so in JSON."""
    found = compare(np.full(299, 0.9), np.full(299, 0.9))
    assert (found.equivalent, found.reasons, found.changed_predictions) == (True, (), 0)
    document = json.loads(json.dumps(found.document()))
    assert document["equivalent"] is True
    assert document["changed_bound"] == pytest.approx(0.00996915)
    assert (document["float32_value"], document["value"], document["log_loss_rise"]) == (1.0, 1.0, 0.0)
    assert "0 of 299 predictions changed" in found.words


def test_too_few_images_are_float32() -> None:
    """298 images cannot show that less than 1 % of predictions change."""
    found = compare(np.full(298, 0.9), np.full(298, 0.9))
    assert not found.equivalent
    assert found.reasons == ("expected at least 299 validation and training images. Received: 298",)


def test_a_clear_prediction_must_not_change() -> None:
    """(a) One of 2,000 images with a gap of twice the tolerance changes class."""
    before, after = np.full(2000, 0.9), np.full(2000, 0.9)
    before[-1], after[-1] = 0.52, 0.48
    found = compare(before, after)
    assert (found.clear_changed, found.equivalent) == (1, False)
    assert found.reasons == ("1 changed predictions had a gap of 0.04 or more between first and second class",)
    before[-1] = 0.515
    assert compare(before, after).equivalent


def test_few_predictions_may_change() -> None:
    """(b) 1 of 473 unclear predictions may change, 2 may not."""
    before, after = np.full(473, 0.9), np.full(473, 0.9)
    before[-1], after[-1] = CLOSE, 0.495
    assert compare(before, after).equivalent
    before[-2], after[-2] = CLOSE, 0.495
    found = compare(before, after)
    assert found.changed_predictions == 2
    assert [reason.partition(",")[0] for reason in found.reasons] == ["2 of 473 predictions changed"]


def test_most_images_move_by_at_most_the_tolerance() -> None:
    """(c) 5 % may move further; the largest movement is reported."""
    before, after = np.full(400, 0.9), np.full(400, 0.9)
    after[-19:] = 0.8
    found = compare(before, after)
    assert found.equivalent
    assert found.max_deviation == pytest.approx(0.1)
    after[-21:] = 0.8
    found = compare(before, after)
    assert found.reasons == ("95% of images move by up to 0.1; the tolerance is 0.02",)


def test_the_log_loss_of_validation_images_must_not_rise() -> None:
    """(d) Each validation image loses 0.019 of a small probability; training images do not count."""
    before, after = np.full(400, 0.9), np.full(400, 0.9)
    before[:100], after[:100] = 0.2, 0.181
    found = compare(before, after)
    assert found.log_loss_rise == pytest.approx(np.log(0.2 / 0.181), rel=1e-4)
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("the log loss rises by 0.0998 in validation")
    assert compare(before[::-1], after[::-1]).equivalent


def test_the_gates_metric_may_fall_by_its_margin_and_one_image() -> None:
    """(d) 3 of 100 validation images may be lost with a margin of 0.02, 4 may not."""
    before, after = np.full(2000, 0.9), np.full(2000, 0.9)
    before[:3], after[:3] = CLOSE, 0.495
    assert compare(before, after).equivalent
    before[3], after[3] = CLOSE, 0.495
    found = compare(before, after)
    assert found.reasons == ("accuracy goes from 1.0000 to 0.9600 in validation; 0.0300 may be lost",)
    assert compare(before, after, limits=Limits(0.02, "accuracy", 0.03)).equivalent


def test_a_metric_that_is_better_when_lower_may_not_rise() -> None:
    """(d) The direction is the metric's own."""
    before, after = np.full(400, 0.9), np.full(400, 0.9)
    limits = Limits(tolerance=0.5, metric="log_loss", margin=0.0)
    after[:100] = 0.85
    found = compare(before, after, limits=limits)
    assert any(reason.startswith("log loss goes from 0.1054 to 0.1625") for reason in found.reasons)
    assert compare(after, before, limits=limits).equivalent


def test_no_validation_no_faster_precision() -> None:
    """Training images alone are over-confident; one group has no spread to resample."""
    assert compare(np.full(400, 0.9), np.full(400, 0.9), validation=0).reasons == ("there are no validation images",)
    found = compare(np.full(400, 0.9), np.full(400, 0.9), validation=1)
    assert found.reasons == ("expected validation images of at least 2 groups. Received: 1",)


def test_an_answer_that_is_not_finite_is_never_equivalent() -> None:
    """An overflow of the faster format."""
    after = np.full(400, 0.9)
    after[7] = np.nan
    found = compare(np.full(400, 0.9), after)
    assert (found.equivalent, found.reasons) == (False, ("a probability is not finite",))


def test_evidence_is_validation_first_then_training_by_seed() -> None:
    """Never test images, never those that calibrated; the same seed chooses the same."""
    rows = [*(row(i, "val") for i in range(300)), *(row(i, "train", "b") for i in range(4000)), row(0, "test")]
    manifest, without = Manifest(tuple(rows)), frozenset(f"train/{i:05}.png" for i in range(64))
    found = choose_evidence(manifest, ["a", "b"], seed=1)
    assert len(found.rows) == MAX_IMAGES
    assert int(found.validation.sum()) == 300
    assert found.targets.tolist() == [0] * 300 + [1] * 1700
    assert found.rows == choose_evidence(manifest, ["a", "b"], seed=1).rows
    assert found.rows != choose_evidence(manifest, ["a", "b"], seed=2).rows
    others = found.at(found.without(without))
    assert {chosen.path for chosen in others.rows} == {chosen.path for chosen in found.rows} - without
    assert len(others.rows) == len(others.targets) < MAX_IMAGES


def test_more_validation_images_than_needed_leave_no_training_images() -> None:
    """At most 2,000 images, drawn from all classes."""
    manifest = Manifest(tuple(row(i, "val", "ab"[i >= 2500]) for i in range(5000)))
    found = choose_evidence(manifest, ["a", "b"], seed=0)
    assert len(found.rows) == int(found.validation.sum()) == MAX_IMAGES
    assert 900 < int(found.targets.sum()) < 1100


@pytest.mark.parametrize(
    ("after", "equivalent"),
    [
        pytest.param(0.9, True, id="the same"),
        pytest.param(0.889, True, id="within the tolerance"),
        pytest.param(0.84, False, id="beyond it"),
    ],
)
def test_images_without_labels_are_judged_by_divergence(after: float, equivalent: bool) -> None:
    """No validation, no metric; the document says that there were no labels."""
    unlabelled = Evidence(evidence(400).rows, None)
    before = answers(np.full(400, 0.9))
    found = judge("openvino", "int8", unlabelled, before, answers(np.full(400, after)), LIMITS)
    assert (found.equivalent, found.labelled, found.log_loss_rise_bound, found.value) == (equivalent, False, None, None)
    assert found.divergence == pytest.approx(0.9 * np.log(0.9 / after) + 0.1 * np.log(0.1 / (1 - after)), abs=1e-6)
    assert not equivalent or found.words.endswith("judged without labels")


def test_a_certain_answer_that_spreads_diverges() -> None:
    """(d) without labels: within the tolerance, but the log loss may rise by more than 0.01 nats."""
    before, after = answers(np.full(400, 0.9999)), answers(np.full(400, 0.98))
    found = judge("openvino", "int8", Evidence(evidence(400).rows, None), before, after, LIMITS)
    assert found.deviation_95 < 0.02
    assert [reason.startswith("the mean divergence from float32 is") for reason in found.reasons] == [True]
