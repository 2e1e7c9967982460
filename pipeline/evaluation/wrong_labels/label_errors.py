"""Finds images that are likely labelled wrong: confident learning on out-of-fold predictions over embeddings.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021, arXiv:1911.00068. An
image is listed when it is off the diagonal of the confident joint and another class is more probable than its own; the
list is ranked by normalised margin. The predictions are those of a linear discriminant whose covariance is shrunk as
Ledoit and Wolf do.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from pipeline.data.split import ManifestRow
from pipeline.evaluation.calibration import softmax

FOLDS = 5  # a class needs as many groups: fewer would leave it out of some fold's training part
_REPEATS = 3  # different folds, whose predictions are averaged
_MAX_DIMENSIONS = 256  # more are projected on their principal components
_MIN_SKILL = 0.5  # of the way from guessing to perfect; predictions that are worse contradict right labels
_MIN_VALIDATION = 10  # images that say something of the accuracy
_TIE = 0.5  # the normalised margin of two equal probabilities
_SEED = 1

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LikelyError:
    """An image that is likely labelled wrong.

    Attributes:
        row: the image, with the label that it was given.
        suggested: the label that the predictions agree with.
        score: normalised margin of the given label: 0 is surely wrong, 0.5 a tie, 1 surely right.
    """

    row: ManifestRow
    suggested: str
    score: float


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        training: likely errors among training and validation images, the surest first.
        test: the same of the test images, which the search does not learn from.
        looked_at: training and validation images of the classes that have enough groups.
        test_looked_at: test images of these classes.
        left_out: classes with fewer than FOLDS groups in training and validation.
        accuracy: balanced accuracy of the out-of-fold predictions, or of those of validation images where it is lower;
            None without any.
        needed: the accuracy below which nothing is listed.
    """

    training: tuple[LikelyError, ...]
    test: tuple[LikelyError, ...]
    looked_at: int
    test_looked_at: int
    left_out: tuple[str, ...]
    accuracy: float | None = None
    needed: float | None = None


def find_label_errors(rows: Sequence[ManifestRow], embeddings: NDArray[np.floating], labels: Sequence[str]) -> Found:
    """Find the images whose label the other images contradict.

    Training and validation images are judged by models that saw no image of their group; test images by models of all
    of these folds. Test images change neither models nor thresholds.

    Args:
        rows: the images; every one with a label of `labels`.
        embeddings: shape (images, dimensions).
        labels: class names.
    """
    given = np.array([labels.index(row.label) for row in rows], np.int64)
    is_test = np.array([row.split == "test" for row in rows], np.bool_)
    groups = _number_groups([row.group for row in rows])
    owners = _group_labels(groups[~is_test], given[~is_test], len(labels))
    kept = np.flatnonzero(np.bincount(owners[owners >= 0], minlength=len(labels)) >= FOLDS)
    left_out = tuple(label for i, label in enumerate(labels) if i not in kept)
    looked_at = np.flatnonzero(np.isin(given, kept))
    own, test = looked_at[~is_test[looked_at]], looked_at[is_test[looked_at]]
    if len(kept) < 2:
        return Found((), (), 0, 0, left_out)
    targets, values = np.searchsorted(kept, given), _reduce(embeddings, own)
    held_out, others = _predict(values[own], targets[own], groups[own], values[test])
    accuracy, needed = _balanced_accuracy(held_out, targets[own]), _MIN_SKILL + (1 - _MIN_SKILL) / len(kept)
    validation = np.array([rows[i].split == "val" for i in own.tolist()], np.bool_)
    if validation.sum() >= _MIN_VALIDATION:  # a network that learned its training images by heart knows only those
        accuracy = min(accuracy, _balanced_accuracy(held_out[validation], targets[own][validation]))
    if accuracy < needed:
        return Found((), (), len(own), len(test), left_out, accuracy, needed)
    thresholds = confident_thresholds(held_out, targets[own])
    parts = (own, held_out), (test, others)
    named = [labels[i] for i in kept.tolist()]
    training, unseen = (
        _list_errors([rows[i] for i in places.tolist()], probabilities, targets[places], thresholds, named)
        for places, probabilities in parts
    )
    return Found(training, unseen, len(own), len(test), left_out, accuracy, needed)


def confident_thresholds(probabilities: Floats, targets: Integers) -> Floats:
    """Return each class's mean probability over the images that are given it, shape (classes,)."""
    totals = np.bincount(targets, probabilities[np.arange(len(targets)), targets], minlength=probabilities.shape[1])
    return totals / np.bincount(targets, minlength=probabilities.shape[1])


def confident_labels(probabilities: Floats, targets: Integers, thresholds: Floats) -> Integers:
    """Return the column of the confident joint that each image is counted in, shape (images,).

    That is the most probable of the classes whose probability reaches the class's threshold; an image that reaches none
    is in no cell of the joint, and keeps its label here.
    """
    reached = probabilities >= thresholds
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, targets)


def normalised_margins(probabilities: Floats, targets: Integers) -> Floats:
    """Return (1 + p(given) - the largest other p) / 2, shape (images,)."""
    places = np.arange(len(targets))
    others = probabilities.copy()
    others[places, targets] = -1.0
    margins: Floats = (1 + probabilities[places, targets] - others.max(axis=1)) / 2
    return margins


def write_label_errors(path: Path, found: Found) -> None:
    """Write one CSV line for each likely error: training and validation images first, the surest first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "label", "suggested", "score"])
        for error in (*found.training, *found.test):
            row = error.row
            writer.writerow([row.path, row.split, row.label, error.suggested, f"{error.score:.4f}"])


def _balanced_accuracy(probabilities: Floats, targets: Integers) -> float:
    """Return the mean recall of the classes that occur."""
    hits = np.bincount(targets, probabilities.argmax(axis=1) == targets, minlength=probabilities.shape[1])
    totals = np.bincount(targets, minlength=probabilities.shape[1])
    return float((hits[totals > 0] / totals[totals > 0]).mean())


def _list_errors(
    rows: Sequence[ManifestRow], probabilities: Floats, targets: Integers, thresholds: Floats, labels: Sequence[str]
) -> tuple[LikelyError, ...]:
    if not rows:
        return ()
    suggested = confident_labels(probabilities, targets, thresholds)
    scores = normalised_margins(probabilities, targets)
    listed = np.flatnonzero((suggested != targets) & (scores < _TIE)).tolist()
    found = [LikelyError(rows[i], labels[suggested[i]], float(scores[i])) for i in listed]
    return tuple(sorted(found, key=lambda error: (error.score, error.row.path)))


def _number_groups(groups: Sequence[str]) -> Integers:
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


def _group_labels(groups: Integers, targets: Integers, num_classes: int) -> Integers:
    """Return the most frequent label of each group number, -1 for a number without images."""
    pairs, counts = np.unique(groups * num_classes + targets, return_counts=True)
    owners = np.full(int(groups.max(initial=-1)) + 1, -1, np.int64)
    order = np.argsort(counts, kind="stable")  # the most frequent is written last
    owners[pairs[order] // num_classes] = pairs[order] % num_classes
    return owners


def assign_folds(groups: Integers, targets: Integers, seed: int) -> Integers:
    """Return each image's fold: whole groups, every class spread over all folds.

    Args:
        groups: numbers, shape (images,).
        targets: class indices, shape (images,).
        seed: of the order of the groups.
    """
    owners = _group_labels(groups, targets, int(targets.max()) + 1)
    shuffled = np.random.default_rng([_SEED, seed]).permutation(np.flatnonzero(owners >= 0))
    by_class = shuffled[np.argsort(owners[shuffled], kind="stable")]
    folds = np.zeros(len(owners), np.int64)
    folds[by_class] = np.arange(len(by_class)) % FOLDS
    return folds[groups]


def _reduce(embeddings: NDArray[np.floating], fitted: Integers) -> Floats:
    """Return embeddings in units of their spread over some images, at most _MAX_DIMENSIONS wide."""
    values = embeddings.astype(np.float64)
    spread = values[fitted].std(axis=0)
    values = (values - values[fitted].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if values.shape[1] <= _MAX_DIMENSIONS:
        return values
    from sklearn.decomposition import PCA

    wanted = min(_MAX_DIMENSIONS, len(fitted) - 1)
    axes = PCA(wanted, svd_solver="randomized", random_state=_SEED).fit(values[fitted])
    return np.asarray(axes.transform(values), np.float64)


def _predict(values: Floats, targets: Integers, groups: Integers, others: Floats) -> tuple[Floats, Floats]:
    """Return out-of-fold probabilities of images, and the mean of all folds' models' of other images."""
    num_classes = int(targets.max()) + 1
    held_out = np.zeros((len(values), num_classes))
    unseen = np.zeros((len(others), num_classes))
    for repeat in range(_REPEATS):
        folds = assign_folds(groups, targets, repeat)
        for fold in range(FOLDS):
            inside = folds == fold
            predict = _fit(values[~inside], targets[~inside], num_classes)
            held_out[inside] += predict(values[inside]) / _REPEATS
            if len(others):
                unseen += predict(others) / (_REPEATS * FOLDS)
    return held_out, unseen


def _fit(values: Floats, targets: Integers, num_classes: int) -> Callable[[Floats], Floats]:
    """Fit a linear discriminant; return the function from values to probabilities."""
    from sklearn.covariance import ledoit_wolf

    counts = np.bincount(targets, minlength=num_classes)
    centers = np.zeros((num_classes, values.shape[1]))
    np.add.at(centers, targets, values)
    centers /= np.maximum(counts, 1)[:, None]
    covariance, _ = ledoit_wolf(values - centers[targets], assume_centered=True)
    # Images that are all alike have no spread; the floor keeps the matrix invertible.
    covariance[np.diag_indices_from(covariance)] += 1e-9
    axes = linalg.solve(covariance, centers.T, assume_a="pos")
    with np.errstate(divide="ignore"):  # a class that no image of the training part has is impossible
        offsets = np.log(counts / counts.sum()) - 0.5 * (centers * axes.T).sum(axis=1)
    return lambda given: softmax(given @ axes + offsets, 1.0).astype(np.float64)
