"""The stages of a run after audit and split, each from typed values to typed values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.model import InputSpec
from contract.store import ModelStore
from engine.precision_names import INT8
from pipeline.audit.findings import describe_allowed
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.evaluation.calibration import softmax
from pipeline.evaluation.evaluate import evaluate, write_predictions
from pipeline.evaluation.fitness import find_faults
from pipeline.evaluation.novelty import fit_to_images
from pipeline.evaluation.views import ViewAverage
from pipeline.features.feature_store import FOLDER
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.metrics.table import Predictions
from pipeline.networks.network import Classifier
from pipeline.networks.weights import Weights
from pipeline.publishing.gate import Contender, Gatekeeper
from pipeline.publishing.precisions.equivalence import Limits, choose_evidence
from pipeline.publishing.precisions.int8 import can_quantize, choose_int8_images
from pipeline.publishing.precisions.judge import PrecisionJudge, Reference
from pipeline.publishing.publish import Artifact, Published, TestImages, publish
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.training_settings import Model, Train
from pipeline.report.outcome import write_outcome
from pipeline.report.pictures import draw_pictures
from pipeline.report.report import write_reports
from pipeline.run.facts import Measured, RunFacts, Trained
from pipeline.run.prepare import Images
from pipeline.run_warnings import Weight, warn
from pipeline.training.checkpoint import save_model
from pipeline.training.devices import scope_of
from pipeline.training.train import make_repeatable, train
from pipeline.training.unfreezing import freeze_backbone, plan_stages
from pipeline.training.warm_start import MODEL_FILE, start_classifier

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replicas:
    """A network on several devices.

    Attributes:
        strategy: as `make_strategy` gives it.
        make: builds the network, with the weights that training starts from.
    """

    strategy: Any
    make: Callable[[], Classifier]

    def build(self) -> Classifier:
        """Build the network on all devices."""
        with scope_of(self.strategy):
            return self.make()


def build_network(
    settings: Model, weights: Weights, spec: InputSpec, labels: Sequence[str], train: Train
) -> Classifier:
    """Build the network of a recipe, with the weights that its training starts from.

    Args:
        settings: the network.
        weights: the start.
        spec: of the network's input.
        labels: class names.
        train: has the seed, and the stages, whose layers there must be.

    Raises:
        RecipeError: if it cannot be built.
        WeightsError: if the weights do not fit.
    """
    make_repeatable(train.seed)
    classifier = start_classifier(settings, weights, labels=labels, channels=spec.channels)
    plan_stages(classifier, train)
    return classifier


def train_network(
    classifier: Classifier,
    images: Images,
    recipe: Recipe,
    folder: Path,
    started_from: str | None = None,
    replicas: Replicas | None = None,
) -> Trained:
    """Train a network and save it as a Keras model.

    Args:
        classifier: as `build_network` made it.
        images: after audit and split.
        recipe: training.
        folder: the run's; gets checkpoints, curves and the model.
        started_from: NAME/VERSION of a warm start.
        replicas: of the network on several devices, which train in its place; None: one device.
    """
    labels, features, is_warm = images.dataset.labels, folder.parent.parent / FOLDER, started_from is not None
    frozen = freeze(classifier, images.pixels, images.manifest, labels, recipe, features)
    if replicas is None:
        history = train(classifier, images.manifest, labels, images.pixels, recipe, folder, frozen, warm_start=is_warm)
    else:
        twin = replicas.build()
        history = train(
            twin,
            images.manifest,
            labels,
            images.pixels,
            recipe,
            folder,
            freeze(twin, images.pixels, images.manifest, labels, recipe, features),
            warm_start=is_warm,
            strategy=replicas.strategy,
        )
        classifier.trained_model.set_weights(twin.trained_model.get_weights())
    save_model(classifier.model, folder / MODEL_FILE)
    return Trained(classifier, history, folder / MODEL_FILE, frozen, started_from)


def freeze(
    classifier: Classifier, pixels: Pixels, manifest: Manifest, labels: Sequence[str], recipe: Recipe, features: Path
) -> FrozenBackbone | None:
    """Return the backbone of a run that trains the head alone, with the precision of its features chosen.

    Args:
        classifier: of the run.
        pixels: decodes the images.
        manifest: of the run.
        labels: class names.
        recipe: of the run.
        features: the folder of all features.
    """
    frozen = freeze_backbone(classifier, pixels, recipe, features)
    if frozen is not None:
        frozen.choose_precision(manifest, labels)
    return frozen


def measure_network(trained: Trained, images: Images, recipe: Recipe, folder: Path) -> Measured:
    """Calibrate and evaluate a network, fit the novelty check, look for faults, and write predictions.csv."""
    labels = images.dataset.labels
    tta = recipe.evaluate.tta
    views = None if tta is None else ViewAverage(recipe.augment, recipe.train.seed, tta)
    evaluation = evaluate(
        trained.classifier, images.manifest, labels, images.pixels, recipe.evaluate, trained.frozen, views
    )
    for warning in evaluation.warnings:
        warn(log, Weight.EVALUATION, "%s", warning)
    write_predictions(folder / "predictions.csv", _test_rows(images), evaluation.served, labels)
    predictions = Predictions(evaluation.served, evaluation.targets)
    penalty = sum(float(loss) for loss in trained.classifier.model.losses)
    faults = find_faults(predictions, images.manifest, labels, trained.history.curves, recipe.train, penalty=penalty)
    faults += describe_allowed(images.findings)
    faults += trained.warm_faults()
    novelty = fit_to_images(images.manifest, images.pixels, folder.parent.parent)
    for warning in novelty.warnings if novelty else ():
        warn(log, Weight.FIGURES, "%s.", warning)
    return Measured(evaluation, novelty, tuple(faults))


def report_run(facts: RunFacts, folder: Path) -> Path:
    """Write both reports; return the one that leaves with the model."""
    images = facts.images
    pictures = draw_pictures(
        facts.trained.classifier,
        facts.measured.evaluation,
        _test_rows(images),
        images.dataset.labels,
        images.pixels,
        wrong_labels=facts.wrong_labels.found if facts.wrong_labels else None,
    )
    return write_reports(folder, facts.document(), pictures, images.manifest.rows)


def describe_outcome(facts: RunFacts, folder: Path, published: Published, store: ModelStore) -> None:
    """Write into the run's own report what became of its version."""
    roles = store.read_index()[facts.name]
    write_outcome(
        folder / "report.html",
        facts.name,
        published.version,
        verification={**published.verification.document(), "gate": published.gate.document()},
        equivalences=[
            f"{found.precision} on {found.engine}: {found.words}" for found in published.verification.equivalences or ()
        ],
        roles=roles,
    )


def publish_run(facts: RunFacts, report: Path, gatekeeper: Gatekeeper) -> Published:
    """Export, verify, judge and publish a run's network."""
    images, measured = facts.images, facts.measured
    expected = measured.evaluation.expected
    labels, source = images.dataset.labels, images.dataset.source
    return publish(
        Artifact(facts.name, facts.trained.classifier, facts.contract(), report, measured.evaluation.functions),
        TestImages(images.pixels, [row.path for row in _test_rows(images)], expected),
        _precision_judge(images, facts),
        Contender(labels, images.manifest, facts.ancestors, source, expected, measured.faults),
        gatekeeper,
    )


def _precision_judge(images: Images, facts: RunFacts) -> PrecisionJudge:
    """Return the judge of precisions beside float32; an int8 model only where it can be judged."""
    recipe, manifest = facts.recipe, images.manifest
    seed, export = recipe.train.seed, recipe.export
    evidence = choose_evidence(manifest, images.dataset.labels, seed=seed)
    training = [row.path for row in manifest.of("train")] if _wants_int8(recipe) else []
    int8 = choose_int8_images(training, seed=seed, is_enough=evidence.is_enough_without)
    limits = Limits(export.tolerance, recipe.evaluate.gate.metric, recipe.evaluate.gate.margin)
    budget_s = 60 * export.int8_minutes
    reference = _float32_reference(facts.trained.frozen, facts.measured.evaluation.temperature)
    return PrecisionJudge(images.pixels, evidence, limits, export.allows, int8, budget_s=budget_s, reference=reference)


def _float32_reference(frozen: FrozenBackbone | None, temperature: float) -> Reference | None:
    """Return what gives probabilities at float32 from kept features; None where the backbone has trained."""
    if frozen is None:
        return None

    def predict(runtime: str, rows: Sequence[ManifestRow]) -> NDArray[np.float32] | None:
        logits = frozen.engine_logits(rows) if runtime == frozen.runtime_name else None
        return None if logits is None else softmax(logits, temperature)

    return predict


def _wants_int8(recipe: Recipe) -> bool:
    """Return whether an int8 model is to be made: "auto" leaves it out where NNCF is not installed."""
    return recipe.export.allows(INT8) and (recipe.export.precisions != "auto" or can_quantize())


def _test_rows(images: Images) -> list[ManifestRow]:
    return images.manifest.of("test")
