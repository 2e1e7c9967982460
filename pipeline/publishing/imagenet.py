"""Publishes a Keras application unchanged: its ImageNet weights, its 1000 classes, the names of Keras's class index."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from contract.model import Fit, InputSpec, Label, ModelContract, Resize, build_document
from contract.store import WARMUP_FILE, check_name
from engine.kept import build_synthetic_images
from engine.warmup import write_warmup_records
from pipeline.errors import RecipeError, WeightsError
from pipeline.networks.backbone import Backbone
from pipeline.networks.backbones import BACKBONES
from pipeline.networks.imagenet_files import CLASS_INDEX
from pipeline.networks.network import Classifier
from pipeline.networks.own.graph import PROBABILITIES
from pipeline.networks.preprocessing import check_channels, describe_preprocessing
from pipeline.networks.weights import Weights, fetch_published, load_weights, weights_of_file
from pipeline.publishing.export import export_saved_model
from pipeline.publishing.gate import Gatekeeper, GateOutcome
from pipeline.publishing.imports.label_files import read_labels
from pipeline.publishing.libraries import library_versions
from pipeline.publishing.publish import build_warmup_requests, publish_judged
from pipeline.publishing.verify import verify_alone
from pipeline.recipe.preprocessing_settings import Preprocessing
from pipeline.recipe.recipe import Export

log = logging.getLogger(__name__)

NUM_CLASSES = 1000


@dataclass(frozen=True)
class ImagenetSettings:
    """The network to publish, with its files and its input settings.

    Attributes:
        backbone: one with ImageNet weights.
        weights: a file of them, classification layers included; None takes Keras's, downloaded if need be.
        class_index: a file of class names in the order of the output; None takes Keras's, downloaded if need be.
        resize: interpolation, as in the contract.
        fit: treatment of the aspect ratio, as in the contract.
        crop_fraction: share of each side that is kept, as in the contract.
        preprocessing: of weights from elsewhere; None is the backbone's own.
    """

    backbone: Backbone
    weights: Path | None = None
    class_index: Path | None = None
    resize: Resize = "bilinear"
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class PublishedNetwork:
    """A published ImageNet network.

    Attributes:
        version: the new version's number.
        contract: of the version.
        gate: whether it became live, and why.
    """

    version: int
    contract: ModelContract
    gate: GateOutcome


def publish_imagenet(name: str, settings: ImagenetSettings, gatekeeper: Gatekeeper) -> PublishedNetwork:
    """Build a published network, verify its export against it and publish it.

    Args:
        name: the model to be.
        settings: which network.
        gatekeeper: decides whether the version becomes live; has the store.

    Raises:
        PipelineError, ContractError: with the reason; the store then is as it was.
    """
    check_name(name)
    labels_file, weights = _find_files(settings)
    labels = read_labels(labels_file)
    if len(labels) != NUM_CLASSES:
        raise WeightsError(f"class index: expected {NUM_CLASSES} classes. Received: {len(labels)}")
    backbone = settings.backbone
    if settings.preprocessing is not None:
        check_channels(settings.preprocessing, 3)
        backbone = replace(backbone, preprocessing=settings.preprocessing)
    classifier = build_imagenet_classifier(backbone, weights)
    contract = _contract(classifier, labels, settings, _provenance(backbone, weights, labels_file))
    images = build_synthetic_images(contract.input)
    pixels = backbone.preprocess(images.astype(np.float32))
    expected = np.asarray(classifier.model(pixels, training=False), np.float32)
    with gatekeeper.store.staging() as directory:
        export_saved_model(classifier, contract, directory)
        write_warmup_records(directory / WARMUP_FILE, build_warmup_requests(contract))
        verification = verify_alone(directory, contract, expected)
        version, outcome = publish_judged(directory, name, verification, gatekeeper, None)
    return PublishedNetwork(version, contract, outcome)


def build_imagenet_classifier(backbone: Backbone, weights: Weights) -> Classifier:
    """Build a Keras application with its own classification layers, the weights loaded.

    Raises:
        WeightsError: if the weights do not fit.
    """
    from keras import layers

    if backbone.build_classifier is None:
        raise _unpublished(backbone)
    network = backbone.build_classifier()
    load_weights(network, weights, backbone)
    start = _find_head(network.layers)
    x = layers.Activation("softmax", dtype="float32", name=PROBABILITIES)(network.output)
    model = keras.Model(network.input, x, name="classifier")
    feature_map = network.layers[start].input
    return Classifier(model, network.layers[:start], feature_map, backbone, "imagenet")


def _find_head(network_layers: list[Any]) -> int:
    """Return where the feature map ends: at the last pool over all of it, or else at the Flatten."""
    from keras.layers import Flatten, GlobalAveragePooling2D

    for kind in (GlobalAveragePooling2D, Flatten):  # squeeze-and-excitation has such pools too, further ahead
        if places := [i for i, layer in enumerate(network_layers) if isinstance(layer, kind)]:
            return places[-1]
    raise RecipeError("the network has neither a global average pool nor a Flatten")


def _find_files(settings: ImagenetSettings) -> tuple[Path, Weights]:
    """Return the class index and the weights; one error names every missing file."""
    missing: list[str] = []
    labels_file, weights = None, None
    try:
        labels_file = settings.class_index or fetch_published(
            CLASS_INDEX, "the names of ImageNet's classes", "give a file with --class-index FILE"
        )
    except WeightsError as err:
        missing.append(str(err))
    try:
        weights = _find_weights(settings)
    except WeightsError as err:
        missing.append(str(err))
    if labels_file is None or weights is None:
        raise WeightsError("; ".join(missing))
    return labels_file, weights


def _find_weights(settings: ImagenetSettings) -> Weights:
    backbone = settings.backbone
    known = backbone.classifier_weights
    if known is None:
        raise _unpublished(backbone)
    if settings.weights is None:
        what = f"the ImageNet weights of {backbone.name} with its classification layers"
        return Weights("imagenet", fetch_published(known, what, "give a file with --weights FILE"), published=True)
    if not settings.weights.is_file():
        raise WeightsError(f"--weights: expected a file of {backbone.name}'s weights. Received: {settings.weights}")
    weights = weights_of_file(settings.weights, known)
    if not weights.published:
        log.warning("%s is not the file that Keras publishes for %s.", settings.weights.name, backbone.name)
    return weights


def _unpublished(backbone: Backbone) -> RecipeError:
    published = ", ".join(other.name for other in BACKBONES.values() if other.classifier_weights is not None)
    return RecipeError(
        f"--backbone: expected a network with published ImageNet weights: {published}. Received: {backbone.name}"
    )


def _contract(
    classifier: Classifier, labels: tuple[Label, ...], settings: ImagenetSettings, provenance: dict[str, Any]
) -> ModelContract:
    size = settings.backbone.input_size
    document = build_document(
        labels,
        InputSpec(size, size, resize=settings.resize, fit=settings.fit, crop_fraction=settings.crop_fraction),
        saliency=classifier.saliency,
        embedding={"dimension": classifier.embedding_dimension},
        temperature=1.0,  # as published: there are no images here to calibrate with
        tolerance=Export().tolerance,
        provenance=provenance,
    )
    return ModelContract.from_document(document)


def _provenance(backbone: Backbone, weights: Weights, labels_file: Path) -> dict[str, Any]:
    return {
        "backbone": backbone.name,
        "weights": weights.provenance,
        "preprocessing": describe_preprocessing(backbone.preprocessing),
        "class_index_sha256": hashlib.sha256(labels_file.read_bytes()).hexdigest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": library_versions(),
    }
