"""Starts training from a version in the store: from its backbone, and from its head where the labels are the same."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
from pydantic import ValidationError

from contract.errors import StoreError
from contract.store import ModelStore
from pipeline.data.lineage import find_run, names_version
from pipeline.errors import WeightsError
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.own.backbone import backbone_of
from pipeline.networks.own.kept import with_kept_file
from pipeline.networks.weights import Earlier, Weights, find_weights
from pipeline.recipe.training_settings import Model
from pipeline.run_warnings import Weight, warn

MODEL_FILE = "model.keras"
log = logging.getLogger(__name__)


def find_start(settings: Model, store: ModelStore, runs_dir: Path) -> Weights:
    """Find the weights that a recipe's training starts from.

    Args:
        settings: `weights` may be imagenet, none, a file, or NAME/VERSION, where VERSION may be a role.
        store: has the version.
        runs_dir: has the Keras model of the version's run.

    Raises:
        WeightsError: if it cannot be found, or does not match the version's contract.
    """
    if not names_version(settings.weights) or Path(settings.weights).is_file():
        return find_weights(backbone_of(settings), settings.weights)
    return find_earlier(store, runs_dir, settings.weights)


def find_earlier(store: ModelStore, runs_dir: Path, reference: str, *, option: str = "model.weights") -> Weights:
    """Find the Keras model that a version was exported from.

    Args:
        store: has the version.
        runs_dir: has the version's run.
        reference: NAME/VERSION, where VERSION may be a role.
        option: that names the version, for messages.

    Raises:
        WeightsError: if it cannot be found, or does not match the version's contract.
    """
    try:
        return _find_earlier(store, runs_dir, reference, option)
    except (StoreError, ValidationError, KeyError, OSError) as err:
        raise WeightsError(f"{option}: {reference} cannot be gone on with: {err}") from err


def start_classifier(settings: Model, weights: Weights, *, labels: Sequence[str], channels: int) -> Classifier:
    """Build the network of a recipe with the weights that its training starts from.

    Raises:
        RecipeError: if the network cannot be built.
        WeightsError: if the weights do not fit.
    """
    try:
        classifier = build_classifier(settings, weights, num_classes=len(labels), channels=channels)
    except WeightsError:
        # Keras's first format is only read whole: a file with a head does not fit a backbone.
        nothing = Weights("none", None)
        classifier = build_classifier(settings, nothing, num_classes=len(labels), channels=channels)
        if weights.file is None or not _load_whole(classifier, weights.file, labels):
            raise
        return classifier
    if weights.earlier is not None:
        _go_on_from(classifier, weights.earlier, labels)
    elif weights.file is not None and not weights.published and not _load_whole(classifier, weights.file, labels):
        arrays = sum(len(layer.weights) for layer in classifier.backbone_layers)
        if settings.last_layer is None and _count_arrays(weights.file) > arrays:
            warn(
                log,
                Weight.EVALUATION,
                "%s has another head, which is left out: the head is trained anew.",
                weights.file.name,
            )
    return classifier


def _load_whole(classifier: Classifier, file: Path, labels: Sequence[str]) -> bool:
    """Load a file into a classifier, its head too, and return whether it fits; the classifier is unchanged if not."""
    before = classifier.model.get_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            classifier.model.load_weights(file)
    except (ValueError, OSError, KeyError, UserWarning):
        classifier.model.set_weights(before)
        return False
    warn(
        log,
        Weight.EVALUATION,
        "%s has a head of %d classes, which is kept: its classes are taken to be %s, in this order.",
        file.name,
        len(labels),
        ", ".join(labels),
    )
    return True


def _count_arrays(file: Path) -> int:
    """Return how many arrays a file of weights holds, without those of an optimizer; 0 if it does not say."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            found.append(name)

    try:
        content: Any = file
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r") as weights:
            weights.visititems(visit)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return 0
    return len(found)


def _find_earlier(store: ModelStore, runs_dir: Path, reference: str, option: str) -> Weights:
    name, version = store.resolve(reference)
    contract = store.read_contract(name, version)
    folder = find_run(store, runs_dir, name, version)
    if folder is None or not (folder / MODEL_FILE).is_file():
        raise WeightsError(
            f"{option}: {reference} was not trained here, or its run was deleted: expected {MODEL_FILE} of run "
            f"{contract.document['provenance'].get('run')} below {runs_dir / name}"
        )
    file = folder / MODEL_FILE
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    provenance = contract.document["provenance"]
    if sha256 != provenance["keras_model_sha256"]:
        raise WeightsError(
            f"{option}: {file} is not the model that {reference} was exported from: expected sha256 "
            f"{provenance['keras_model_sha256']}. Received: {sha256}"
        )
    settings = with_kept_file(Model.model_validate(provenance["recipe"]["model"]), folder)
    labels = tuple(label.id for label in contract.labels)
    return Weights(
        "sha256:" + sha256, None, earlier=Earlier(reference, file, settings, labels, contract.input.channels)
    )


def _go_on_from(classifier: Classifier, earlier: Earlier, labels: Sequence[str]) -> None:
    # Its weights come from the file alone, whatever its own training started from.
    settings = earlier.settings.model_copy(update={"weights": "none"})
    source = build_classifier(
        settings, Weights("none", None), num_classes=len(earlier.labels), channels=earlier.channels
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            source.model.load_weights(earlier.file)
    except (ValueError, OSError, KeyError, UserWarning) as err:
        raise WeightsError(f"{earlier.file} cannot be read: {str(err).strip().splitlines()[0]}") from err
    if not _fits(source.backbone_layers, classifier.backbone_layers):
        raise WeightsError(
            f"model.weights: {earlier.reference} is a {settings.backbone} for {earlier.channels} channels, whose "
            "layers do not fit this recipe's model.backbone, model.last_layer and data.color"
        )
    _copy(source.backbone_layers, classifier.backbone_layers)
    heads = [model.layers[len(backbone) :] for model, backbone in _parts(source, classifier)]
    if list(earlier.labels) == list(labels) and _fits(*heads):
        _copy(*heads)
    else:
        warn(
            log,
            Weight.EVALUATION,
            "%s gives its backbone; labels or head differ, so the head is trained anew.",
            earlier.reference,
        )


def _parts(*classifiers: Classifier) -> list[tuple[Any, list[Any]]]:
    return [(classifier.model, classifier.backbone_layers) for classifier in classifiers]


def _fits(sources: Sequence[Any], targets: Sequence[Any]) -> bool:
    """Return True if two rows of layers have the same kinds and shapes; names are numbered and may differ."""
    return [_kind(layer) for layer in sources] == [_kind(layer) for layer in targets]


def _kind(layer: Any) -> tuple[type, list[tuple[int, ...]]]:
    return type(layer), [tuple(variable.shape) for variable in layer.weights]


def _copy(sources: Sequence[Any], targets: Sequence[Any]) -> None:
    from keras import layers

    for source, target in zip(sources, targets, strict=True):
        target.set_weights(source.get_weights())
        if isinstance(target, layers.Normalization):
            target.finalize_state()  # it computes with constants made from its weights
