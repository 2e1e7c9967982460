"""Two published versions on the same test images, none of which either was trained on."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from contract.files.regular import read_regular
from contract.store import ModelStore
from pipeline.data.lineage import MANIFEST_FILE, Seen, class_order, find_run, seen_by
from pipeline.data.split import read_manifest
from pipeline.errors import DatasetError, list_names
from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.evaluate_published import LabelledPredictions, predict_labelled
from pipeline.metrics.document import pack_counts
from pipeline.publishing.verify_published import PREDICTIONS_FILE

Reference = tuple[str, int]  # a model's name and a version's number


def compare_versions(
    store: ModelStore, runs_dir: Path, first: Reference, second: Reference, *, data: Path | None = None
) -> dict[str, Any]:
    """Return how two versions differ.

    Args:
        store: has the versions.
        runs_dir: has the manifests of their runs, and the predictions that the runs wrote down.
        first: one version.
        second: another one, of the same classes.
        data: a labelled set to ask both on; None uses the test images that both runs wrote their predictions down of.

    Returns:
        `images` compared, in so many `groups`; `left_out`: images that one of the two was trained on, they or their
        group; `unknown`: the versions of which that is not known; `relabelled`: images that have other labels in the
        two runs; `judged_by`: the version whose run is the newer one, by the labels and groups of which both are
        measured; `a` and `b`: name, version and metrics; `agreement`: counts of images by the first's prediction (rows)
        and the second's (columns), as `pack_counts` gives them; `only_a_right`, `only_b_right`;
        `mcnemar_p`: exact, two-sided probability of a split this uneven if both were equally good;
        `accuracy_difference`: b minus a; `accuracy_difference_interval`: 95 %, bootstrap over groups.

    Raises:
        DatasetError: if the classes differ, or no image is left to compare on.
    """
    answers = [
        _recorded(store, runs_dir, reference)
        if data is None
        else predict_labelled(store, runs_dir, *reference, data)[0]
        for reference in (first, second)
    ]
    a, b = answers[0], _same_columns(answers[0].labels, answers[1])
    a, b = _common(a, b)
    seen, unknown = _seen(store, runs_dir, (first, second))
    chosen = [i for i, rows in enumerate(zip(a.rows, b.rows, strict=True)) if not any(map(seen.knows, rows))]
    if not chosen:
        raise DatasetError(
            f"expected test images that both versions can be compared on. Received: {len(a.rows)} in common, "
            "all of them trained or validated on by one of the two; name a set with --data"
        )
    left_out = len(a.rows) - len(chosen)
    a, b = a.subset(chosen), b.subset(chosen)
    relabelled = sum(x.label != y.label for x, y in zip(a.rows, b.rows, strict=True))
    newer = _find_newer(store, runs_dir, (first, second))
    rows = (a, b)[newer].rows
    a, b = replace(a, rows=rows), replace(b, rows=rows)
    return {
        "images": len(chosen),
        "groups": len({row.group for row in rows}),
        "left_out": left_out,
        "unknown": unknown,
        "relabelled": relabelled,
        "judged_by": "{}/{}".format(*(first, second)[newer]),
        "labels": list(a.labels),
        "a": {"model": first[0], "version": first[1], **a.measure()},
        "b": {"model": second[0], "version": second[1], **b.measure()},
        **_differences(a, b),
    }


def _recorded(store: ModelStore, runs_dir: Path, reference: Reference) -> LabelledPredictions:
    """Return the predictions that a version's run recorded of its test images."""
    name, version = reference
    folder = find_run(store, runs_dir, name, version)
    if folder is None or not (folder / PREDICTIONS_FILE).is_file():
        raise DatasetError(f"{name}/{version}: its run is not recorded here; name a set to compare on with --data")
    labels = class_order(store.read_contract(name, version))
    rows = {row.path: row for row in read_manifest(folder / MANIFEST_FILE).of("test")}
    try:
        with io.StringIO(read_regular(folder / PREDICTIONS_FILE).decode("utf-8"), newline="") as file:
            found = [
                (rows[line["path"]], [line[f"probability_{label}"] for label in labels])
                for line in csv.DictReader(file)
            ]
        return LabelledPredictions(
            labels, [row for row, _ in found], np.array([values for _, values in found], np.float32)
        )
    except (OSError, KeyError, ValueError) as err:
        raise DatasetError(f"{name}/{version}: {PREDICTIONS_FILE} of its run cannot be read: {err}") from err


def _same_columns(labels: Sequence[str], answers: LabelledPredictions) -> LabelledPredictions:
    """Return answers with their columns in the order of `labels`."""
    if sorted(labels) != sorted(answers.labels):
        raise DatasetError(
            f"expected two versions with the same classes. Received: {list_names(labels)} "
            f"and {list_names(answers.labels)}"
        )
    return answers.in_order(labels)


def _common(a: LabelledPredictions, b: LabelledPredictions) -> tuple[LabelledPredictions, LabelledPredictions]:
    """Return the answers on the images that both have, by content, in the order of the first; copies count once."""
    in_a = {row.sha256: i for i, row in reversed(list(enumerate(a.rows)))}
    in_b = {row.sha256: i for i, row in reversed(list(enumerate(b.rows)))}
    common = [sha256 for sha256 in in_a if sha256 in in_b]
    common.sort(key=in_a.__getitem__)
    if not common:
        raise DatasetError("expected test images that both versions have. Received: none; name a set with --data")
    return a.subset([in_a[sha256] for sha256 in common]), b.subset([in_b[sha256] for sha256 in common])


def _seen(store: ModelStore, runs_dir: Path, references: Sequence[Reference]) -> tuple[Seen, list[str]]:
    """Return the training images of the versions, and the versions of which they are not known."""
    found = {f"{name}/{version}": seen_by(store, runs_dir, name, version) for name, version in references}
    seen = Seen()
    for known in found.values():
        seen |= known or Seen()
    return seen, [reference for reference, known in found.items() if known is None]


def _find_newer(store: ModelStore, runs_dir: Path, references: Sequence[Reference]) -> int:
    """Return the position of the version whose run is the newer one; the last where runs are not known."""
    runs = [find_run(store, runs_dir, *reference) for reference in references]
    ids = ["" if run is None else run.name for run in runs]  # which begin with the time
    return max(range(len(ids)), key=lambda i: (ids[i], i))


def _differences(a: LabelledPredictions, b: LabelledPredictions) -> dict[str, Any]:
    """Return how the predictions of two versions differ.

    Args:
        a: of one version.
        b: of the other one, of the same images with the same labels.
    """
    targets = np.array([a.labels.index(row.label) for row in a.rows])
    said_a, said_b = a.probabilities.argmax(axis=1), b.probabilities.argmax(axis=1)
    right_a, right_b = said_a == targets, said_b == targets
    agreement = np.zeros((len(a.labels), len(a.labels)), np.int64)
    np.add.at(agreement, (said_a, said_b), 1)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    gain: NDArray[np.float64] = right_b.astype(np.float64) - right_a
    bootstrap = GroupBootstrap([row.group for row in a.rows])
    return {
        "agreement": pack_counts(agreement),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "mcnemar_p": float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
        "accuracy_difference": float(gain.mean()),
        "accuracy_difference_interval": bootstrap.interval(
            lambda weights: (weights @ gain) / weights.sum(axis=1), bounds=(-1.0, 1.0)
        ),
    }
