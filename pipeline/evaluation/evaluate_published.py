"""Evaluates a published version on a labelled set."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.files.regular import read_regular
from contract.model import ModelContract
from contract.store import ModelStore
from engine.precision_names import AUTO
from pipeline.data.groups import group_of
from pipeline.data.ingest import Dataset, Example, ingest
from pipeline.data.lineage import class_order, find_run, seen_by, trained_data
from pipeline.data.map_batches import map_batches
from pipeline.data.names import escape_name, find_twins, spell_name
from pipeline.data.split import ManifestRow
from pipeline.errors import DatasetError, UnknownSplitError
from pipeline.evaluation.measure import measure
from pipeline.evaluation.scorer import Decoded, Read, Scorer, decode_files, scorer_of
from pipeline.evaluation.views import ViewAverage, measure_views, views_of_version
from pipeline.metrics.table import Predictions
from pipeline.recipe.data_settings import Data
from pipeline.run_folder import RUN_FILE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledPredictions:
    """A version's predictions of labelled images.

    Attributes:
        labels: class ids in the order of the probabilities' columns.
        rows: the images, their true labels among `labels`.
        probabilities: float32, shape (images, classes).
        precision: of the arithmetic, such as "float32"; "" where it is not known.
        averaged: probabilities by test-time augmentation, like `probabilities`; None without it.
    """

    labels: tuple[str, ...]
    rows: list[ManifestRow]
    probabilities: NDArray[np.float32]
    precision: str = ""
    averaged: NDArray[np.float32] | None = None

    def measure(self) -> dict[str, Any]:
        """Return the metrics, as `metrics.measure` does."""
        return measure(self.probabilities, self._targets, self.labels, [row.group for row in self.rows])

    def measure_views(self, views: ViewAverage) -> dict[str, Any]:
        """Return the metrics of test-time augmentation beside plain ones; without it, nothing."""
        if self.averaged is None:
            return {}
        plain, averaged = Predictions(self.probabilities, self._targets), Predictions(self.averaged, self._targets)
        return measure_views(views, plain, averaged, [row.group for row in self.rows])

    @property
    def _targets(self) -> NDArray[np.int64]:
        return np.array([self.labels.index(row.label) for row in self.rows], np.int64)

    def subset(self, chosen: Sequence[int]) -> LabelledPredictions:
        """Return the predictions at some positions, in that order."""
        rows, probabilities = [self.rows[i] for i in chosen], self.probabilities[list(chosen)]
        averaged = None if self.averaged is None else self.averaged[list(chosen)]
        return replace(self, rows=rows, probabilities=probabilities, averaged=averaged)

    def in_order(self, labels: Sequence[str]) -> LabelledPredictions:
        """Return the predictions with their columns in another order of the same classes."""
        columns = [self.labels.index(label) for label in labels]
        averaged = None if self.averaged is None else self.averaged[:, columns]
        return replace(self, labels=tuple(labels), probabilities=self.probabilities[:, columns], averaged=averaged)


def evaluate_published(
    store: ModelStore,
    runs_dir: Path,
    name: str,
    version: int,
    *,
    location: Path,
    zip_encoding: str | None = None,
    precision: str = AUTO,
    tta: int | None = None,
) -> dict[str, Any]:
    """Return the metrics of a version on a set: on its test images if the set has any, else on all of them.

    Args:
        store: has the version.
        runs_dir: has the manifest of its training images.
        name: the model.
        version: its number.
        location: folder, zip or table of labelled images.
        zip_encoding: of names in a zip that are not marked as UTF-8, where it differs from the training set's.
        precision: "auto" (a faster one only where the version's verification allows it), or which.
        tta: views of each image over which predictions are averaged too (test-time augmentation); None: not measured.

    Returns:
        `metrics.measure`'s document with `model`, `version`, `precision`, `dataset`, `unreadable` (images left out) and
        `trained_on` (images that the version was trained or validated on, or another one of whose group was; None if
        that is not known), and `tta`, where that was asked for, as `measure_views` gives it.

    Raises:
        PipelineError, ContractError, EngineError: with the reason.
    """
    views = views_of_version(store.read_contract(name, version), tta)
    predictions, unreadable = predict_labelled(
        store, runs_dir, name, version, location, zip_encoding=zip_encoding, precision=precision, views=views
    )
    seen = seen_by(store, runs_dir, name, version)
    trained_on = None if seen is None else sum(seen.knows(row) for row in predictions.rows)
    if trained_on:
        log.warning(
            "%d of %d images were trained on, they or their group: the numbers are flattered.",
            trained_on,
            len(predictions.rows),
        )
    about = {
        "model": name,
        "version": version,
        "precision": predictions.precision,
        "dataset": escape_name(location.name),
    }
    measured = (
        predictions.measure() if views is None else {**predictions.measure(), "tta": predictions.measure_views(views)}
    )
    return {**about, "unreadable": unreadable, "trained_on": trained_on, **measured}


def predict_labelled(
    store: ModelStore,
    runs_dir: Path,
    name: str,
    version: int,
    location: Path,
    *,
    zip_encoding: str | None = None,
    precision: str = AUTO,
    views: ViewAverage | None = None,
) -> tuple[LabelledPredictions, int]:
    """Return a version's predictions of a labelled set and the number of images that cannot be read.

    Args:
        store: has the version.
        runs_dir: has its run, which says where its own images are.
        name: the model.
        version: its number.
        location: folder, zip or table of labelled images.
        zip_encoding: as `evaluate_published` takes it.
        precision: likewise.
        views: over which predictions are averaged too.

    Raises:
        DatasetError: if the set has a class that the model does not know, or no readable image.
    """
    contract = store.read_contract(name, version)
    settings = trained_data(contract)
    dataset = _ingest(location, settings, zip_encoding)
    for note in dataset.notes:
        log.warning("%s.", note)
    examples = [example for example in dataset.examples if example.split == "test"] or list(dataset.examples)
    ids = _ids_of(contract, {example.label for example in examples})
    groups = _groups(settings, examples, "" if _is_of_run(store, runs_dir, name, version, location) else f"{location}:")
    sha256: dict[str, str] = {}

    def read(path: str) -> bytes:
        data = dataset.source.read(path)
        sha256[path] = hashlib.sha256(data).hexdigest()
        return data

    with scorer_of(store, name, version, precision=precision) as scorer:
        chosen = scorer.engine.precision
        probabilities = _predict_readable(scorer, read, [example.path for example in examples], views)
    rows = [
        ManifestRow(example.path, sha256[example.path], ids[example.label], group, "test")
        for example, group in zip(examples, groups, strict=True)
        if example.path in probabilities
    ]
    unreadable = len(examples) - len(rows)
    if not rows:
        raise DatasetError(
            f"{escape_name(location.name)}: expected readable images. Received: {unreadable} unreadable ones"
        )
    if unreadable:
        log.warning("%d of %d images cannot be read and were left out.", unreadable, len(examples))
    labels = tuple(label.id for label in contract.labels)
    plain, *averaged = np.stack([probabilities[row.path] for row in rows], axis=1)
    found = LabelledPredictions(labels, rows, plain, chosen, averaged[0] if averaged else None)
    return found.in_order(class_order(contract)), unreadable


def _ingest(location: Path, settings: Data, zip_encoding: str | None) -> Dataset:
    """List a set as the model's own was read; another one may have other folders."""
    if zip_encoding is not None:
        settings = settings.model_copy(update={"zip_encoding": zip_encoding})
    try:
        return ingest(location, settings)
    except UnknownSplitError:
        return ingest(location, settings.model_copy(update={"splits": None}))


def _predict_readable(
    scorer: Scorer, read: Read, paths: list[str], views: ViewAverage | None
) -> dict[str, NDArray[np.float32]]:
    """Return the plain probabilities of each readable image, and those over views, shape (1 or 2, classes)."""

    def score(batch: list[tuple[str, Decoded]]) -> dict[str, NDArray[np.float32]]:
        readable = [(path, decoded) for path, decoded in batch if isinstance(decoded, np.ndarray)]
        if not readable:
            return {}
        images = np.stack([image for _, image in readable])
        probabilities = np.stack([scorer(images)] if views is None else views(scorer, images), axis=1)
        return {path: row for (path, _), row in zip(readable, probabilities, strict=True)}

    found: dict[str, NDArray[np.float32]] = {}
    for scored in map_batches(score, decode_files(read, paths, scorer.contract.input)):
        found |= scored
    return found


def _ids_of(contract: ModelContract, classes: set[str]) -> dict[str, str]:
    """Return the label id of each class folder, which may be named by id or by name."""
    by_name = {label.name: label.id for label in contract.labels} | {label.id: label.id for label in contract.labels}
    if unknown := sorted(classes - by_name.keys()):
        known = ", ".join(label.id for label in contract.labels[:10])
        twins = [names for names in find_twins([*unknown, *by_name]) if not by_name.keys() >= set(names)]
        hint = "".join(f"; only the spelling differs: {' and '.join(map(spell_name, names))}" for names in twins)
        received = ", ".join(unknown[:10])
        raise DatasetError(f"expected classes that the model knows ({known}). Received: {received}{hint}")
    return {label: by_name[label] for label in classes}


def _groups(settings: Data, examples: Sequence[Example], place: str) -> list[str]:
    """Return each image's group by the rule that the model was trained with; its own path where that does not match.

    Args:
        settings: how the model's own images were read.
        examples: the images.
        place: stands before paths, which tell images of one set apart: those of another may have the same.
    """
    try:
        groups = [group_of(example, settings) for example in examples]
    except DatasetError:
        groups = [group_of(example, Data()) for example in examples]
    return [place + group if group == one.path else group for one, group in zip(examples, groups, strict=True)]


def _is_of_run(store: ModelStore, runs_dir: Path, name: str, version: int, location: Path) -> bool:
    """Return whether images are where those of a version's run were; true also where that is not known."""
    folder = find_run(store, runs_dir, name, version)
    if folder is None:
        return True
    try:
        recorded = json.loads(read_regular(folder / RUN_FILE))["location"]
        return os.path.realpath(location) == os.path.realpath(recorded)
    except (OSError, ValueError, KeyError, TypeError):
        return True
