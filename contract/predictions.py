"""Probabilities to ranked, named classes: pure numpy, any label set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.model import Label, ModelContract

SUM_TOLERANCE = 1e-2  # how far a row may sum from 1; wide enough for bfloat16 engines
_FEW = 64  # probabilities; numpy's sum and minimum take longer to start than plain numbers to add


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class and its probability.

    Attributes:
        index: position of the class in the probabilities' last axis.
        id: the label's id.
        label: the label's name.
        probability: in [0, 1], with the shortest digits that give back the same float32.
    """

    index: int
    id: str
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Decision:
    """An operating point applied to one image.

    Attributes:
        id: the label that the threshold is for.
        label: its name.
        probability: of that label, in [0, 1].
        threshold: from which probability on it is called.
        called: whether it is.
        sensitivity: of the operating point, on test images.
        specificity: of the operating point, on test images.
    """

    id: str
    label: str
    probability: float
    threshold: float
    called: bool
    sensitivity: float
    specificity: float


def decode_predictions(
    probabilities: NDArray[np.floating], labels: Sequence[Label], top: int
) -> list[list[Prediction]]:
    """Return the `top` most probable classes of each image, best first; ties keep class order.

    Args:
        probabilities: float32, shape (batch, num_classes), rows in [0, 1] summing to 1.
        labels: class names; position is the class index used in training.
        top: 1 <= top; more than there are classes gives all of them.

    Raises:
        ContractError: if `probabilities` is not 2-D, its width differs from `len(labels)`, a value is not finite or
            a row does not sum to 1.
        ValueError: if `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"top: expected at least 1. Received: {top}")
    check_probabilities(probabilities, len(labels))
    order = (-probabilities).argsort(axis=1, kind="stable")[:, :top].tolist()
    rows = probabilities.astype(np.float32, copy=False)
    return [
        [Prediction(index, labels[index].id, labels[index].name, _shortest(row[index])) for index in ranked]
        for row, ranked in zip(rows, order, strict=True)
    ]


def decide(row: NDArray[np.floating], contract: ModelContract) -> list[Decision]:
    """Apply a contract's operating points to one image, in their order.

    Args:
        row: checked probabilities, float32, shape (num_classes,).
        contract: has the labels and the operating points.
    """
    decisions = []
    for point in contract.operating_points:
        index = next(i for i, label in enumerate(contract.labels) if label.id == point.label)
        value = _shortest(np.float32(row[index]))
        decisions.append(
            Decision(
                id=point.label,
                label=contract.labels[index].name,
                probability=value,
                threshold=point.threshold,
                called=value >= point.threshold,
                sensitivity=point.sensitivity,
                specificity=point.specificity,
            )
        )
    return decisions


def check_probabilities(probabilities: NDArray[np.floating], num_classes: int) -> None:
    """Check that an array holds one probability distribution a row.

    Raises:
        ContractError: naming the fault, with the expected and the received value.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != num_classes:
        raise ContractError(
            f"probabilities: expected shape (batch, {num_classes}). Received: {tuple(probabilities.shape)}"
        )
    if _are_distributions(probabilities):
        return
    if not np.isfinite(probabilities).all():
        raise ContractError("probabilities: expected finite numbers. Received: NaN or infinity")
    lowest, farthest = float(probabilities.min()), max(probabilities.sum(axis=1).tolist(), key=lambda x: abs(x - 1))
    raise ContractError(
        f"probabilities: expected rows in [0, 1] that sum to 1. Received: sum {farthest:.6g}, minimum {lowest:.6g}"
    )


def _are_distributions(probabilities: NDArray[np.floating]) -> bool:
    """Return whether the rows are in [0, 1] and sum to 1, within the tolerance; comparing with NaN is false."""
    if probabilities.size <= _FEW:
        rows = probabilities.tolist()
        return all(abs(sum(row) - 1) <= SUM_TOLERANCE and min(row) >= -SUM_TOLERANCE for row in rows)
    sums = probabilities.sum(axis=1).tolist()
    return all(abs(value - 1) <= SUM_TOLERANCE for value in sums) and bool(probabilities.min() >= -SUM_TOLERANCE)


def _shortest(probability: np.float32) -> float:
    """Return the number with the fewest digits that gives back the same float32."""
    return float(str(probability))
