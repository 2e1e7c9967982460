"""Describes facts that tell classes, with their values by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audit.separability import Classes, Feature, Separation, measure_separation

_SHOWN_CLASSES, _SHOWN_VALUES = 6, 3
_UNSHOWN = 0.02  # balanced accuracy


@dataclass(frozen=True)
class Result:
    """Facts of one kind, and how well they tell the classes.

    Attributes:
        name: of the kind, or kinds, joined by "and".
        separation: how well.
        features: the facts.
    """

    name: str
    separation: Separation
    features: tuple[Feature, ...]


def describe_results(results: Sequence[Result], classes: Classes) -> str:
    """Return a sentence on facts that tell classes, without its full stop."""
    return f"Classes can be told apart by {', by '.join(_describe_result(result, classes) for result in results)}"


def _describe_result(result: Result, classes: Classes) -> str:
    found = result.separation
    whom = "" if found.label is None else f"{found.label} against the rest: "
    feature = max(result.features, key=lambda feature: _value_of(feature, classes, found.label))
    fact = "" if feature.name == result.name else f"{feature.name}: "
    figure = f"balanced accuracy {found.accuracy:.2f} [{found.low:.2f}, {found.high:.2f}], chance {found.chance:.2f}"
    return f"{result.name} ({whom}{figure}; {fact}{_count_values(feature, classes, found.label)})"


def _value_of(feature: Feature, classes: Classes, label: str | None) -> float:
    """Return how well a feature tells the classes by itself, less a little where its values are too many to show."""
    column = classes.column(feature)
    if column is None:
        return 0.0
    accuracy = next(found.accuracy for found in measure_separation([column], classes) if found.label == label)
    return accuracy - (0.0 if feature.numeric or _are_few(feature, classes) else _UNSHOWN)


def _are_few(feature: Feature, classes: Classes) -> bool:
    return len({feature.values[row] for row in classes.rows}) <= _SHOWN_VALUES * len(classes.labels)


def _count_values(feature: Feature, classes: Classes, label: str | None) -> str:
    """Return a fact's values by class, with counts, such as "cat: JPEG (12); dog: PNG (11), JPEG (1)"."""
    order = sorted(classes.labels, key=lambda name: name != label)
    few = _are_few(feature, classes)
    texts = []
    for name in order[:_SHOWN_CLASSES]:
        rows = classes.rows[classes.targets == classes.labels.index(name)]
        values = [feature.values[row] for row in rows]
        texts.append(f"{name}: {_spell_numbers(values) if feature.numeric and not few else _spell_counts(values)}")
    more = len(order) - len(texts)
    return "; ".join([*texts, *([f"{more} more classes"] if more > 0 else [])])


def _spell_counts(values: Sequence[Hashable]) -> str:
    counts = Counter(_spell(value) for value in values).most_common()
    more = sum(count for _, count in counts[_SHOWN_VALUES:])
    return ", ".join(
        [*(f"{value} ({count})" for value, count in counts[:_SHOWN_VALUES]), *([f"others ({more})"] * (more > 0))]
    )


def _spell_numbers(values: Sequence[Hashable]) -> str:
    """Return the range of the middle 90 % of numbers, and their median."""
    numbers = [float(str(value)) for value in values if value is not None]
    if not numbers:
        return "none"
    low, middle, high = np.percentile(numbers, [5, 50, 95])
    return f"{low:.5g} to {high:.5g}, median {middle:.5g}"


def _spell(value: Hashable) -> str:
    if isinstance(value, bool):
        return "with" if value else "without"
    return "not said" if value is None else str(value) or "none"
