"""Measures how well facts tell the classes of images: a naive Bayes classifier, cross-validated over whole groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FEWEST_GROUPS = 5  # of a class; smaller classes are left out
_FOLDS = 5
_VALUES = 64  # values of a feature that are told apart; the others are one
_RANGES = 16  # that a number is cut into
_GROUPS_A_RANGE = 4  # of the smallest class, at least, in one range of a number
_PRIOR = 1.0  # images by which a class is drawn towards the whole set
_FALSE_ALARMS = 0.005  # nominal share of sets without a fault in which any of the results is beyond chance
_DEVIATIONS = 1.96  # of a 95 % interval
_TIE = 1e-9
_SEED = 0


@dataclass(frozen=True)
class Feature:
    """One fact of every image.

    Attributes:
        name: such as "width".
        values: one an image; None where the fact does not apply, which tells nothing.
        numeric: whether values are cut into ranges.
    """

    name: str
    values: Sequence[Hashable]
    numeric: bool = False


@dataclass(frozen=True)
class Separation:
    """The accuracy by which facts tell the classes, or one class from the others.

    Attributes:
        accuracy: balanced accuracy on images of groups that the classifier has not seen.
        low: lower end of its 95 % interval.
        high: upper end.
        chance: balanced accuracy of guessing.
        label: the class that is told from the others; None when every class is told from every other.
        p_value: probability of such an accuracy by chance.
    """

    accuracy: float
    low: float
    high: float
    chance: float
    label: str | None
    p_value: float

    def is_beyond_chance(self, num_results: int) -> bool:
        """Return whether the interval and, of so many results of one set, the p-value lie beyond chance."""
        return self.low > self.chance and self.p_value * num_results < _FALSE_ALARMS


class Classes:
    """The classes and groups of a set, with the folds of its cross-validation.

    Args:
        labels: of each image.
        groups: of each image; those of one group are in one fold, and a class counts for as many images as groups.
    """

    def __init__(self, labels: Sequence[str], groups: Sequence[str]) -> None:
        every_label, targets = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
        every_group = np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1]
        num_groups = np.bincount(np.unique(np.stack([targets, every_group]), axis=1)[0], minlength=len(every_label))
        kept = num_groups >= FEWEST_GROUPS
        self.rows: NDArray[np.intp] = np.flatnonzero(kept[targets])
        self.labels: list[str] = every_label[kept].tolist()
        self.targets: NDArray[np.intp] = (np.cumsum(kept) - 1)[targets[self.rows]]
        self.groups: NDArray[np.intp] = np.unique(every_group[self.rows], return_inverse=True)[1]
        self.num_groups: NDArray[np.int64] = num_groups[kept]
        self.folds = self._choose_folds() if len(self.labels) > 1 else np.zeros(0, np.intp)

    def _choose_folds(self) -> NDArray[np.intp]:
        """Return each image's fold; the groups of a class are dealt out in turn."""
        first = np.unique(self.groups, return_index=True)[1]
        order = np.random.default_rng(_SEED).permutation(len(first))
        order = order[np.argsort(self.targets[first][order], kind="stable")]
        folds = np.empty(len(first), np.intp)
        folds[order] = np.arange(len(first)) % _FOLDS
        return folds[self.groups]

    def column(self, feature: Feature) -> Column | None:
        """Return a feature of the images that are kept; None if it is the same everywhere it applies."""
        values = [feature.values[row] for row in self.rows]
        there = np.array([value is not None for value in values])
        known = [value for value in values if value is not None]
        numbers = {value: i for i, value in enumerate(dict.fromkeys(known))}
        if len(numbers) < 2:
            return None
        column = np.full(len(values), np.nan)
        column[there] = np.asarray(known, np.float64) if feature.numeric else [numbers[value] for value in known]
        return Column(column, feature.numeric)

    def weights(self, held_out: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return weights of images that make classes equal and are 0 for those held out, shape (images,)."""
        training = np.where(held_out, 0.0, 1.0)
        return training / np.maximum(np.bincount(self.targets, training), 1)[self.targets]


@dataclass(frozen=True)
class Column:
    """A feature of images as numbers.

    Attributes:
        values: float64, shape (images,), NaN where the feature does not apply; numbers of names, or numbers.
        numeric: whether values are cut into ranges.
    """

    values: NDArray[np.float64]
    numeric: bool

    def levels(self, weights: NDArray[np.float64], most: int) -> NDArray[np.intp]:
        """Return the level of every image, from 0, -1 where the feature does not apply.

        Args:
            weights: of the images that levels are chosen by; the others must not have a say.
            most: ranges of a number.
        """
        there = ~np.isnan(self.values)
        levels = np.full(len(there), -1)
        choose = _cut_numbers if self.numeric else _number_values
        levels[there] = choose(self.values[there], weights[there], most if self.numeric else _VALUES)
        return levels


def _number_values(values: NDArray[np.float64], weights: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return levels of names: the weightiest that occur twice, then one for all others, also those without weight."""
    codes = values.astype(np.intp)
    sums, counts = np.bincount(codes, weights), np.bincount(codes, weights > 0)
    common = np.flatnonzero(counts > 1)
    common = common[np.argsort(-sums[common], kind="stable")][:most]
    ranks = np.full(len(sums), len(common))
    ranks[common] = np.arange(len(common))
    return ranks[codes]


def _cut_numbers(values: NDArray[np.float64], weights: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return ranges of numbers that hold about equal weights."""
    chosen = weights > 0
    order = np.argsort(values[chosen], kind="stable")
    numbers = values[chosen][order]
    if not len(numbers):
        return np.zeros(len(values), np.intp)
    different = numbers[np.flatnonzero(np.diff(numbers, prepend=-np.inf))]
    if len(different) <= most:
        cuts = (different[1:] + different[:-1]) / 2
    else:
        shares = np.cumsum(weights[chosen][order])
        places = np.searchsorted(shares, np.arange(1, most) / most * shares[-1])
        cuts = np.unique(numbers[np.minimum(places, len(numbers) - 1)])
    return np.searchsorted(cuts, values)


def measure_separation(columns: Sequence[Column], classes: Classes) -> list[Separation]:
    """Return how well features together tell all classes and, of more than two, each class from the others."""
    num_classes = len(classes.labels)
    answers, claims = np.zeros((2, len(classes.targets), num_classes))
    for fold in range(_FOLDS):
        held_out = classes.folds == fold
        own, contrast = _score(columns, classes, held_out)
        best = own >= own.max(axis=1, keepdims=True) - _TIE
        answers[held_out] = best / best.sum(axis=1, keepdims=True)
        claims[held_out] = np.where(np.abs(contrast) < _TIE, 0.5, contrast > 0)
    every = [_measure_recall(answers[:, i], classes.targets == i, classes.groups) for i in range(num_classes)]
    if num_classes == 2:
        return [_combine(every, 0.5, None, _chance_of_claims(answers[:, 1], classes.targets == 1, classes.groups))]
    found = [_combine(every, 1 / num_classes, None, _chance_of_answers(answers, classes))]
    for i, label in enumerate(classes.labels):
        own_rows = classes.targets == i
        both = [
            _measure_recall(claims[:, i], own_rows, classes.groups),
            _measure_recall(1 - claims[:, i], ~own_rows, classes.groups),
        ]
        found.append(_combine(both, 0.5, label, _chance_of_claims(claims[:, i], own_rows, classes.groups)))
    return found


def _score(
    columns: Sequence[Column], classes: Classes, held_out: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log likelihoods of held-out images, and those against the other classes', shape (images, classes)."""
    num_classes, training = len(classes.labels), classes.targets[~held_out]
    own = np.zeros((int(held_out.sum()), num_classes))
    contrast = own.copy()
    weights = classes.weights(held_out)
    most = min(_RANGES, max(2, int(classes.num_groups.min()) // _GROUPS_A_RANGE))
    for column in columns:
        levels = column.levels(weights, most)
        num_levels = int(levels.max()) + 1
        seen = levels[~held_out]
        there = seen >= 0
        places = seen[there] * num_classes + training[there]
        counts = np.bincount(places, minlength=num_levels * num_classes).reshape(num_levels, num_classes)
        logs, against = _log_likelihoods(counts)
        # The last row is for images to which the feature does not apply, and for levels that were not seen.
        tables = [np.vstack([table, np.zeros(num_classes)]) for table in (logs, against)]
        wanted = levels[held_out]
        own += tables[0][wanted]
        contrast += tables[1][wanted]
    return own, contrast


def _log_likelihoods(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log P(level | class), and the same minus log P(level | other classes), shape (levels, classes)."""
    totals = counts.sum(axis=0)
    others = counts.sum(axis=1, keepdims=True) - counts
    others_totals = totals.sum() - totals
    usual = (counts / np.maximum(totals, 1)).mean(axis=1, keepdims=True)
    seen = counts.sum(axis=1) > 0
    own = np.zeros(counts.shape)
    own[seen] = np.log(((counts + _PRIOR * usual) / (totals + _PRIOR))[seen])
    rest = np.zeros(counts.shape)
    rest[seen] = np.log(((others + _PRIOR * usual) / (others_totals + _PRIOR))[seen])
    return own, own - rest


def _shares(credit: NDArray[np.float64], groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean of each group, shape (groups,)."""
    numbers = np.unique(groups, return_inverse=True)[1]
    return np.asarray(np.bincount(numbers, credit) / np.bincount(numbers))


def _measure_recall(
    credit: NDArray[np.float64], rows: NDArray[np.bool_], groups: NDArray[np.intp]
) -> tuple[float, float, float]:
    """Return the share of right answers with Wilson's interval; every group counts once."""
    shares = _shares(credit[rows], groups[rows])
    share, count, square = float(shares.mean()), len(shares), _DEVIATIONS**2
    center = (share + square / (2 * count)) / (1 + square / count)
    half = _DEVIATIONS * np.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return share, float(center - half), float(center + half)


def _chance_of_claims(claims: NDArray[np.float64], rows: NDArray[np.bool_], groups: NDArray[np.intp]) -> float:
    """Return how likely as many images of a class are claimed for it, if claims know nothing of it (Fisher's test)."""
    own, others = _shares(claims[rows], groups[rows]), _shares(claims[~rows], groups[~rows])
    right, wrong = int(own.sum() + _TIE), int(np.ceil(others.sum() - _TIE))
    return float(stats.hypergeom.sf(right - 1, len(own) + len(others), right + wrong, len(own)))


def _chance_of_answers(answers: NDArray[np.float64], classes: Classes) -> float:
    """Return how likely answers are as good that know nothing of the classes.

    Their balanced accuracy over all ways to hand out the labels has a known mean and variance; its tail is a gamma
    distribution's.
    """
    firsts = np.unique(np.stack([classes.groups, classes.targets]), axis=1, return_inverse=True)[1]
    each = np.stack([np.bincount(firsts, column) / np.bincount(firsts) for column in answers.T], axis=1)
    targets = np.empty(len(each), np.intp)
    targets[firsts] = classes.targets
    counts = np.bincount(targets)
    values = each / (counts * len(counts))
    usual = (values * counts).sum(axis=1, keepdims=True) / counts.sum()
    spread = values - usual - values.mean(axis=0) + usual.mean()
    variance = float((spread**2 * counts).sum()) / (len(each) - 1)
    mean, accuracy = 1 / len(counts), float(values[np.arange(len(each)), targets].sum())
    return float(stats.gamma.sf(accuracy, mean**2 / variance, scale=variance / mean)) if variance > 0 else 1.0


def _combine(
    recalls: Sequence[tuple[float, float, float]], chance: float, label: str | None, p_value: float
) -> Separation:
    """Return the mean of recalls, with an interval from theirs (Zou and Donner's method of variance recovery)."""
    share, low, high = np.asarray(recalls).T
    below, above = (float(np.sqrt((sides**2).sum())) / len(share) for sides in (share - low, high - share))
    mean = float(share.mean())
    return Separation(mean, max(0.0, mean - below), min(1.0, mean + above), chance, label, p_value)
