"""Confident learning: planted wrong labels are found with their right ones, in any shape of set."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.split import ManifestRow, Split
from pipeline.evaluation.wrong_labels.label_errors import (
    FOLDS,
    Found,
    LikelyError,
    assign_folds,
    confident_labels,
    confident_thresholds,
    find_label_errors,
    normalised_margins,
    write_label_errors,
)

LABELS = ["cat", "dog", "owl"]


def make_set(
    *, per_class: int = 40, labels: Sequence[str] = LABELS, size: int = 2, width: int = 6, test: int = 0
) -> tuple[list[ManifestRow], NDArray[np.float32], list[str]]:
    """Rows with `size` images a group, embeddings that lie in clusters, and the true labels."""
    rng = np.random.default_rng(5)
    centers = 4 * rng.normal(size=(len(labels), width))
    rows, values, truth = [], [], []
    for i, label in enumerate(labels):
        for number in range(per_class + test):
            side: Split = "test" if number >= per_class else "val" if number % 7 == 0 else "train"
            group = f"{label}{side == 'test'}{number // size}"
            rows.append(ManifestRow(f"{label}/{number:03}.png", "0" * 64, label, group, side))
            values.append(centers[i] + rng.normal(size=width))
            truth.append(label)
    return rows, np.array(values, np.float32), truth


def relabel(rows: list[ManifestRow], changes: dict[int, str]) -> list[ManifestRow]:
    return [
        ManifestRow(row.path, row.sha256, changes.get(i, row.label), row.group, row.split) for i, row in enumerate(rows)
    ]


def named(errors: Sequence[LikelyError]) -> dict[str, str]:
    return {error.row.path: error.suggested for error in errors}


def test_swapped_labels_are_found_with_their_right_ones() -> None:
    """Six of 120 labels are swapped: these six are listed, each with its true class, and no other."""
    rows, values, _ = make_set()
    changes = {3: "dog", 17: "owl", 44: "cat", 61: "owl", 90: "cat", 110: "dog"}

    found = find_label_errors(relabel(rows, changes), values, LABELS)

    assert {rows[i].path: rows[i].label for i in changes} == named(found.training)
    assert all(error.score < 0.5 for error in found.training)
    assert sorted(error.score for error in found.training) == [error.score for error in found.training]
    assert (120, 0, ()) == (found.looked_at, found.test_looked_at, found.left_out)


def test_a_clean_set_has_none() -> None:
    """Nothing is listed where classes are apart, and the same call gives the same."""
    rows, values, _ = make_set()

    found = find_label_errors(rows, values, LABELS)

    assert ((), (), 120) == (found.training, found.test, found.looked_at)
    assert found == find_label_errors(rows, values, LABELS)


def test_test_images_are_listed_apart_and_change_nothing() -> None:
    """A wrong test label is found; other test labels and pictures change neither list of the others."""
    rows, values, _ = make_set(test=10)
    changes = {3: "dog", 44: "owl"}  # image 44 is a test image
    found = find_label_errors(relabel(rows, changes), values, LABELS)

    assert {"cat/003.png": "cat"} == named(found.training)
    assert {rows[44].path: rows[44].label} == named(found.test)
    assert (120, 30) == (found.looked_at, found.test_looked_at)

    spoilt = values.copy()
    tests = [i for i, row in enumerate(rows) if row.split == "test"]
    spoilt[tests] = 50.0
    others = find_label_errors(relabel(rows, changes | dict.fromkeys(tests, "owl")), spoilt, LABELS)
    assert found.training == others.training


def test_a_group_is_never_judged_by_its_own_images() -> None:
    """A group of near copies under one wrong label would vouch for itself; its images are all listed."""
    rows, values, _ = make_set(per_class=48, size=4)
    copies = [i for i, row in enumerate(rows) if row.group == "catFalse2"]
    values[copies] = values[copies[0]] + np.random.default_rng(0).normal(0, 0.01, (4, values.shape[1]))

    found = find_label_errors(relabel(rows, dict.fromkeys(copies, "owl")), values, LABELS)

    assert {rows[i].path: "cat" for i in copies} == named(found.training)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 2, 7])
def test_folds_keep_groups_whole_and_spread_classes(seed: int, size: int) -> None:
    """No group is in two folds, also one with two labels; every class is in every fold."""
    targets = np.repeat(np.arange(4), 70)
    groups = np.arange(280) // size
    targets[5] = 3

    folds = assign_folds(groups, targets, seed)

    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert all(set(folds[targets == target]) == set(range(FOLDS)) for target in range(4))


def test_classes_with_too_few_groups_are_left_out_by_name() -> None:
    """Four groups of a class, however many images, are too few: it is neither judged nor suggested."""
    rows, values, _ = make_set()
    few = relabel(rows, {i: "ant" for i in range(8)})  # the first four groups of cat

    found = find_label_errors(few, values, ["ant", *LABELS])

    assert ("ant",) == found.left_out
    assert 112 == found.looked_at
    assert not found.training


def test_a_label_without_training_images_is_left_out() -> None:
    """A class of test images alone cannot be learnt; its images are not looked at."""
    rows, values, _ = make_set(test=4)
    alone = relabel(rows, {i: "zebu" for i, row in enumerate(rows) if row.split == "test" and row.label == "owl"})

    found = find_label_errors(alone, values, [*LABELS, "zebu"])

    assert ("zebu",) == found.left_out
    assert 8 == found.test_looked_at


@pytest.mark.parametrize("rows", [0, 2, 12])
def test_sets_too_small_are_not_looked_at(rows: int) -> None:
    """Fewer than two classes with enough groups: nothing is said, and nothing fails."""
    some, values, _ = make_set(per_class=4)

    assert Found((), (), 0, 0, tuple(LABELS)) == find_label_errors(some[:rows], values[:rows], LABELS)


def test_many_classes() -> None:
    """One wrong label in a hundred classes of ten images, with more dimensions than are kept."""
    labels = [f"species {i:03}" for i in range(100)]
    rows, values, _ = make_set(per_class=10, labels=labels, size=1, width=400)

    found = find_label_errors(relabel(rows, {123: "species 099"}), values, labels)

    assert {"species 012/003.png": "species 012"} == named(found.training)
    assert 1000 == found.looked_at


NOISE = np.random.default_rng(0).normal(size=(120, 6))


@pytest.mark.parametrize("values", [np.zeros((120, 6)), np.ones((120, 1)), np.full((120, 3), 1e30), NOISE])
def test_embeddings_that_say_nothing(values: NDArray[np.float64]) -> None:
    """Images that all look the same, or of noise alone, give no list, and the accuracy that is too low."""
    rows, _, _ = make_set()

    found = find_label_errors(rows, values.astype(np.float32), LABELS)

    assert () == found.training
    assert found.accuracy is not None
    assert pytest.approx(2 / 3) == found.needed
    assert found.accuracy < 0.5


def test_the_confident_joint_by_hand() -> None:
    """Thresholds are mean self-confidences; an image goes to the likeliest class above its own, or to none."""
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.55, 0.45], [0.4, 0.6], [0.1, 0.9]])
    targets = np.array([0, 0, 0, 0, 1, 1])

    thresholds = confident_thresholds(probabilities, targets)

    assert [0.5875, 0.75] == pytest.approx(list(thresholds))
    assert [0, 0, 1, 0, 1, 1] == list(confident_labels(probabilities, targets, thresholds))
    assert [0.9, 0.7, 0.2, 0.55, 0.6, 0.9] == pytest.approx(list(normalised_margins(probabilities, targets)))


def test_the_csv_reads_back_whatever_a_path_holds(tmp_path: Path) -> None:
    """Commas, quotes, line ends, formulas and other scripts stay in their cells; an empty list is a header."""
    paths = ["a,b/c.png", 'say "x".png', "two\nlines.png", "=SUM(A1).png", "緑内障/眼.png", r"gr\xfcn.png"]
    errors = tuple(
        LikelyError(ManifestRow(path, "0" * 64, 'la"bel,', "g", "train"), "=other", 0.12345) for path in paths
    )
    write_label_errors(tmp_path / "some.csv", Found(errors, (), 6, 0, ()))
    write_label_errors(tmp_path / "none.csv", Found((), (), 6, 0, ()))

    with (tmp_path / "some.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert paths == [row["path"] for row in read]
    assert {("train", 'la"bel,', "=other", "0.1235")} == {
        (row["split"], row["label"], row["suggested"], row["score"]) for row in read
    }
    assert "path,split,label,suggested,score\r\n" == (tmp_path / "none.csv").read_bytes().decode()


def test_classes_learned_by_heart_are_not_looked_at() -> None:
    """Embeddings that give the label of training images away, and nothing of validation images, judge no label."""
    rng = np.random.default_rng(0)
    given, is_train = rng.integers(0, 2, 200), np.arange(200) < 140
    embeddings = rng.normal(size=(200, 16))
    embeddings[is_train, 0] += 4 * given[is_train]
    rows = [ManifestRow(str(i), "", "ab"[given[i]], str(i), "train" if is_train[i] else "val") for i in range(200)]

    found = find_label_errors(rows, embeddings, ["a", "b"])

    assert found.training == found.test == ()
    assert found.accuracy is not None and found.needed is not None
    assert found.accuracy < found.needed
