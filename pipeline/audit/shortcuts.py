"""Finds classes that facts beside the subject give away: the files' containers, and borders, colour and file size."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audit.findings import Finding
from pipeline.audit.separability import Classes, Column, Feature, Separation, measure_separation
from pipeline.audit.shortcut_facts import CONTAINER, FILE_SIZE, PICTURE
from pipeline.data.image_quality import AuditedImage
from pipeline.data.ingest import Example
from pipeline.recipe.data_settings import Data

TOO_GOOD = 0.9  # balanced accuracy above which a class is given away
_TOO_GOOD_ALONE = 0.98  # the same of one class against the others by its pictures: a 6 has an empty corner (0043)
_SEED = 0
_MAX_PICTURES = 5000  # that facts of the picture are measured on
_MAX_CLASSES = 200  # the largest; every image is scored for every class
_MAX_SCORES = 4_000_000  # images times classes
_ALLOW = "data.allow_shortcuts"
_WAY_ROUND = "store every class in the same way, or accept a model that may go by it with --allow-shortcuts"
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


def find_shortcuts(images: Sequence[AuditedImage], groups: Sequence[str], data: Data) -> list[Finding]:
    """Return findings on facts that tell the classes of the images that training may use.

    Facts of containers that tell them with a balanced accuracy above 0.9 are an error unless the recipe allows them by
    name. Borders, colours and sizes of files are judged where the audit measured the pictures too.

    Args:
        images: the readable ones.
        groups: of each image.
        data: the recipe's settings of the audit.
    """
    is_deep = all(image.facts.rim for image in images)
    chosen = _choose([image.example for image in images])
    images, groups = [images[i] for i in chosen], [groups[i] for i in chosen]
    classes = Classes([image.example.label for image in images], groups)
    if len(classes.labels) < 2:
        return []
    findings, sized = _find_in_containers(images, classes, data)
    if is_deep:
        findings += _find_in_pictures(images, groups, [name for name in PICTURE if name != FILE_SIZE or not sized])
    return findings


def _choose(examples: Sequence[Example]) -> list[int]:
    """Return positions of images that training may use, of large classes and of many a random choice."""
    members: dict[str, list[int]] = defaultdict(list)
    for i in np.random.default_rng(_SEED).permutation(len(examples)).tolist():
        if examples[i].split != "test":
            members[examples[i].label].append(i)
    largest = sorted(members, key=lambda label: (-len(members[label]), label))[:_MAX_CLASSES]
    most = _MAX_SCORES // max(1, len(largest)) ** 2
    return sorted(i for label in largest for i in members[label][:most])


def _find_in_containers(images: Sequence[AuditedImage], classes: Classes, data: Data) -> tuple[list[Finding], bool]:
    """Return findings, and whether facts of the containers give a class away, as the sizes of files then do too."""
    allowed = set(data.allow_shortcuts)
    kinds = {name: read(images) for name, read in CONTAINER.items()}
    refused = _measure({name: kinds[name] for name in kinds if name not in allowed}, classes)
    given = [result for result in refused if result.separation.accuracy > TOO_GOOD]
    findings = []
    if refused:
        names = ",".join(dict.fromkeys(name for result in given or refused for name in result.name.split(" and ")))
        words = _describe_results(refused, classes)
        error = Finding("error", "shortcuts", f"{words}: {_WAY_ROUND} {names}")
        findings.append(error if given else Finding("warning", "shortcuts", words))
    results = _measure({name: kinds[name] for name in kinds if name in allowed}, classes)
    if accepted := [result for result in results if result.separation.accuracy > TOO_GOOD]:
        words = f"{_describe_results(accepted, classes)}, which {_ALLOW} accepts"
        findings.append(Finding("warning", "allowed_shortcuts", words, allowed_by=_ALLOW))
    return findings, bool(given or accepted)


def _find_in_pictures(images: Sequence[AuditedImage], groups: Sequence[str], kinds: Sequence[str]) -> list[Finding]:
    if len(images) > _MAX_PICTURES:
        chosen = np.sort(np.random.default_rng(_SEED).choice(len(images), _MAX_PICTURES, replace=False))
        images, groups = [images[i] for i in chosen], [groups[i] for i in chosen]
    classes = Classes([image.example.label for image in images], groups)
    if len(classes.labels) < 2:
        return []
    found = _measure({name: PICTURE[name](images) for name in kinds}, classes, _is_too_good)
    if not found:
        return []
    words = f"{_describe_results(found, classes)}. Look whether that is the subject, or how the pictures were made"
    return [Finding("warning", "picture_shortcuts", words)]


def _is_too_good(found: Separation) -> bool:
    return found.accuracy > (TOO_GOOD if found.label is None else _TOO_GOOD_ALONE)


def _measure(
    kinds: Mapping[str, Sequence[Feature]], classes: Classes, enough: Callable[[Separation], bool] = bool
) -> list[Result]:
    """Return the kinds of facts that tell classes beyond chance, the best first.

    All together come first where no kind alone gives a class away.

    Args:
        kinds: facts by their kind.
        classes: of the images.
        enough: whether a result counts.
    """
    columns: dict[str, list[Column]] = {}
    telling: dict[str, tuple[Feature, ...]] = {}
    for name, features in kinds.items():
        pairs = [(feature, classes.column(feature)) for feature in features]
        if varied := [(feature, column) for feature, column in pairs if column is not None]:
            columns[name] = [column for _, column in varied]
            telling[name] = tuple(feature for feature, _ in varied)
    num_results = (len(columns) + (len(columns) > 1)) * (1 if len(classes.labels) == 2 else 1 + len(classes.labels))

    def measure(chosen: Sequence[Column]) -> Separation | None:
        """Return the result that is the nearest to certainty, of all classes before that of one."""
        results = [found for found in measure_separation(chosen, classes) if enough(found)]
        beyond = [found for found in results if found.is_beyond_chance(num_results)]
        return max(beyond, key=lambda found: (found.accuracy - found.chance) / (1 - found.chance), default=None)

    results = [Result(name, best, telling[name]) for name in columns if (best := measure(columns[name])) is not None]
    results.sort(key=lambda result: -result.separation.accuracy)
    if len(columns) > 1 and not any(result.separation.accuracy > TOO_GOOD for result in results):
        best = measure([column for own in columns.values() for column in own])
        if best is not None and (not results or best.accuracy > TOO_GOOD):
            names = [result.name for result in results] or list(columns)
            features = tuple(feature for name in names for feature in telling[name])
            results.insert(0, Result(" and ".join(names), best, features))
    return results


def _describe_results(results: Sequence[Result], classes: Classes) -> str:
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
