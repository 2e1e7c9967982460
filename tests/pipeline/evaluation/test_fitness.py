"""pipeline/evaluation/fitness.py: networks that must not become live by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.data.split import Manifest, ManifestRow, Split
from pipeline.evaluation.fitness import find_chance, find_faults
from pipeline.metrics.table import Predictions
from pipeline.recipe.training_settings import Train

LABELS = ("a", "b", "c")
LEARNED = [{"epoch": 1, "loss": 0.5, "val_loss": 0.6}]


def answers(said: Sequence[int], targets: Sequence[int]) -> Predictions:
    probabilities = 0.05 + 0.85 * np.eye(len(LABELS), dtype=np.float32)[np.asarray(said)]
    return Predictions(probabilities.astype(np.float32), np.asarray(targets, np.int64))


def manifest(targets: Sequence[int], *, training: Sequence[int] = (0, 1, 2) * 10) -> Manifest:
    def rows(split: Split, classes: Sequence[int]) -> list[ManifestRow]:
        return [
            ManifestRow(f"{split}{i}", f"{split}{i}", LABELS[c], f"{split}{i}", split) for i, c in enumerate(classes)
        ]

    return Manifest((*rows("test", targets), *rows("train", training), *rows("val", training)))


def faults(
    said: Sequence[int],
    targets: Sequence[int],
    curves: Sequence[dict[str, Any]] = LEARNED,
    *,
    training: Sequence[int] = (0, 1, 2) * 10,
    **settings: Any,
) -> list[str]:
    return find_faults(answers(said, targets), manifest(targets, training=training), LABELS, curves, Train(**settings))


def test_network_that_has_learned_has_no_fault() -> None:
    """Also on twelve images of which one is wrong."""
    assert [] == faults([0, 1, 2] * 4, [0, 1, 2] * 4)
    assert [] == faults([1, 1, 2] + [0, 1, 2] * 3, [0, 1, 2] * 4)


def test_guessing_is_named_with_its_interval() -> None:
    """A third right of three classes."""
    targets = [0, 1, 2] * 20
    (fault,) = faults([i // 3 % 3 for i in range(60)], targets)

    assert fault.startswith("balanced accuracy 0.3333 is not above guessing: interval [0.2")
    assert fault.endswith("on 60 test images in 60 groups, guessing 1/3 = 0.3333")


def test_constant_answer_is_named() -> None:
    """Right about most images, as most are of that class."""
    found = faults([1] * 60, [1] * 54 + [0] * 3 + [2] * 3)

    assert "the answer is constant: b for each of 60 test images" == found[0]
    assert found[1].startswith("balanced accuracy 0.3333 is not above guessing")


def test_test_images_of_one_class_show_nothing() -> None:
    """Every network may be right about them by a constant answer."""
    assert any("guessing 1/1 = 1.0000" in fault for fault in faults([0] * 30, [0] * 30))


def test_one_group_shows_nothing() -> None:
    """An interval needs two."""
    fault = find_chance(answers([0, 1, 2] * 10, [0, 1, 2] * 10), ["P1"] * 30)

    assert fault is not None
    assert "no interval on 30 test images in 1 groups" in fault


def test_lucky_image_of_a_rare_class_is_no_proof() -> None:
    """One of one right and 15 of 30 is a balanced accuracy of 0.75, and nothing."""
    targets = [0] * 30 + [1]
    assert find_chance(answers([0] * 15 + [1] * 15 + [1], targets), [str(i) for i in range(31)]) is not None


@pytest.mark.parametrize(
    ("loss", "val_loss", "settings", "diverged"),
    [
        (50.0, 80.0, {}, True),
        (1.2, 1.2, {}, True),
        (1.2, 1.0, {}, False),  # augmentation and dropout make training harder
        (0.01, 3.0, {}, False),  # too sure of itself, which the temperature mends
        (0.5, float("nan"), {}, True),
        (0.5, float("inf"), {}, True),
        (1.0985, 1.0985, {"label_smoothing": 0.1}, False),
        (1.0987, 1.0987, {"class_weight": "balanced"}, True),
        (0.9, 0.9, {"loss": "categorical_hinge"}, False),
        (1.25, 1.25, {"loss": "categorical_hinge"}, True),
        (0.13, 0.13, {"loss": "categorical_focal_crossentropy"}, True),
        (0.11, 0.11, {"loss": "categorical_focal_crossentropy", "class_weight": "balanced"}, False),
        (0.3, 0.3, {"loss": "mean_squared_error"}, True),
        (0.2, 0.2, {"loss": "mean_squared_error"}, False),
        (0.7, 0.7, {"loss": "binary_crossentropy"}, True),
        (1.2, 1.2, {"loss": "kl_divergence"}, True),
        (1.0, 1.0, {"loss": "kl_divergence"}, False),
    ],
)
def test_loss_of_the_last_epoch_is_compared_with_a_constant_answers(
    loss: float, val_loss: float, settings: dict[str, Any], diverged: bool
) -> None:
    """It is 1.0986, log 3, for three classes of one size; both losses must be above."""
    curves = [*LEARNED, {"epoch": 2, "loss": loss, "val_loss": val_loss}]
    found = faults([0, 1, 2] * 10, [0, 1, 2] * 10, curves, **settings)

    assert diverged == any(fault.startswith("the loss diverged: ") for fault in found)


def test_constant_answer_knows_the_shares_of_the_classes() -> None:
    """Nine in ten of one class: a loss of 0.5 is above the constant answer's 0.39, unless classes are weighted."""
    training = [0] * 27 + [1] * 3
    curves = [{"epoch": 1, "loss": 0.5, "val_loss": 0.5}]
    said = [0, 1] * 15

    assert any("a constant answer has 0.3251 and 0.3251" in f for f in faults(said, said, curves, training=training))
    assert [] == faults(said, said, curves, training=training, class_weight="balanced")


def test_penalty_of_weights_is_no_divergence() -> None:
    """Regularizers add to both losses of a network, and nothing to a constant answer's."""
    said = [0, 1, 2] * 10
    curves = [{"epoch": 1, "loss": 5.4, "val_loss": 5.5}]

    assert [] == find_faults(answers(said, said), manifest(said), LABELS, curves, Train(), penalty=5.0)
    assert any(
        "diverged" in fault for fault in find_faults(answers(said, said), manifest(said), LABELS, curves, Train())
    )
