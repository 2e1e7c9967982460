"""A whole run: ingest, audit, split, train, calibrate, evaluate, export, verify, publish; each stage written down."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from contract.model import InputSpec, Label, ModelContract, build_document
from contract.store import ModelStore, check_name
from pipeline.architecture import describe_network
from pipeline.backbones import find_backbone
from pipeline.card import read_card
from pipeline.evaluate import Evaluation, contract_points, evaluate, write_predictions
from pipeline.evaluate_settings import check_classes
from pipeline.export import SALIENCY
from pipeline.gate import Contender, Gatekeeper, GateOutcome
from pipeline.ingest import ingest
from pipeline.network import Classifier, build_classifier
from pipeline.pictures import draw_pictures
from pipeline.preparation import Images, input_spec, prepare_images
from pipeline.publish import Artifact, Replay, publish
from pipeline.recipe import Recipe
from pipeline.report import write_reports
from pipeline.run_folder import new_folder
from pipeline.train import make_repeatable, train
from pipeline.verify import Deviation
from pipeline.weights import find_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        name: the model's.
        version: the published version.
        folder: the run's folder, with report.html, metrics.json, predictions.csv, manifest.csv, model.keras.
        directory: the version's folder in the store.
        test: the test metrics, as `evaluate.measure` gives them.
        deviations: how far each engine strays from the Keras model.
        gate: whether the version became live, and why.
    """

    name: str
    version: int
    folder: Path
    directory: Path
    test: dict[str, Any]
    deviations: list[Deviation]
    gate: GateOutcome


@dataclass
class _Clock:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def run(
    location: Path, recipe: Recipe, store: ModelStore, *, name: str, runs_dir: Path, force: bool = False
) -> RunResult:
    """Train on a folder, zip or table of images and publish the result.

    Raises:
        PipelineError, ContractError: with the reason; what was served goes on being served.
    """
    check_name(name)
    clock = _Clock()
    spec = input_spec(recipe)
    dataset = ingest(location, recipe.data.columns)
    check_classes(recipe.evaluate, dataset.labels)
    card = read_card(recipe.evaluate.card, dataset.labels)
    weights = find_weights(find_backbone(recipe.model.backbone), recipe.model.weights)
    folder = new_folder(runs_dir / name)
    with clock.stage("audit"):
        images = prepare_images(dataset, recipe, spec, folder)
    with clock.stage("train"):
        make_repeatable(recipe.train.seed)
        classifier = build_classifier(recipe.model, weights, num_classes=len(dataset.labels), channels=spec.channels)
        history = train(classifier, images.manifest, dataset.labels, images.pixels, recipe, folder)
        classifier.model.save(folder / "model.keras")
    with clock.stage("evaluate"):
        evaluation = _evaluate(classifier, images, recipe, folder)
    document = {
        "name": name,
        "run": folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": location.name,
        "weights": weights.provenance,
        "head": classifier.head,
        "recipe": recipe.model_dump(mode="json"),
        "input": asdict(spec),
        **images.document(),
        "warnings": images.warnings + evaluation.warnings,
        "training": asdict(history),
        **evaluation.document(),
        "network": describe_network(classifier),
        "card": card,
        "versions": _versions(),
        "timings": clock.seconds,
    }
    with clock.stage("report"):
        pictures = draw_pictures(classifier, evaluation, images.manifest.of("test"), dataset.labels, images.pixels)
        report = write_reports(folder, document, pictures, images.manifest.rows)
    with clock.stage("publish"):
        contract = _contract(document, dataset.labels, spec, images.manifest.sha256, folder / "model.keras")
        published = publish(
            Artifact(name, classifier, contract, report),
            Replay(images.pixels, [row.path for row in images.manifest.of("test")], evaluation.expected),
            Contender(dataset.labels, images.manifest, weights.provenance, dataset.source, evaluation.expected),
            Gatekeeper(recipe.evaluate.gate, store, runs_dir, force=force),
        )
    outcome = {"version": published.version, "gate": published.gate.document(), "location": str(location.resolve())}
    _write_json(folder / "metrics.json", {**document, **outcome})
    directory = store.version_path(name, published.version)
    return RunResult(name, published.version, folder, directory, evaluation.test, published.deviations, published.gate)


def _evaluate(classifier: Classifier, images: Images, recipe: Recipe, folder: Path) -> Evaluation:
    """Evaluate and write each test image's prediction down."""
    labels = images.dataset.labels
    evaluation = evaluate(classifier, images.manifest, labels, images.pixels, recipe.evaluate)
    for warning in evaluation.warnings:
        log.warning("%s", warning)
    write_predictions(folder / "predictions.csv", images.manifest.of("test"), evaluation.served, labels)
    return evaluation


def _contract(
    document: dict[str, Any], labels: Sequence[str], spec: InputSpec, dataset_sha256: str, model: Path
) -> ModelContract:
    recipe = document["recipe"]
    provenance = {
        **{key: document[key] for key in ("run", "dataset", "weights", "recipe", "created", "versions")},
        "dataset_sha256": dataset_sha256,
        "backbone": recipe["model"]["backbone"],
        "keras_model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "metrics": {key: document["test"][key] for key in ("images", "accuracy", "balanced_accuracy", "brier")},
    }
    return ModelContract.from_document(
        build_document(
            [Label(label, label) for label in labels],
            spec,
            saliency=SALIENCY[document["head"]],
            temperature=document["temperature"],
            tolerance=recipe["export"]["tolerance"],
            operating_points=contract_points(document["operating_points"]),
            provenance=provenance,
        )
    )


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "numpy", "pillow", "scipy", "scikit-learn", "matplotlib")
    return {"python": platform.python_version()} | {name: package_version(name) for name in packages}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
