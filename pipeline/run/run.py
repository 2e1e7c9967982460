"""A whole run: ingest, audit, split, train, calibrate, evaluate, export, verify, publish; each stage written down."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.commands import spell_command
from contract.model import InputSpec, Label, ModelContract, build_document
from contract.store import ModelStore, check_name
from pipeline.data.ingest import Dataset, ingest
from pipeline.evaluation.baseline import fit_to_images
from pipeline.evaluation.evaluate import Evaluation, contract_points, evaluate, write_predictions
from pipeline.interrupt import uncovered_interrupts
from pipeline.metrics.table import metric_names
from pipeline.networks.network import Classifier
from pipeline.networks.weights import Weights
from pipeline.publishing.gate import Contender, Gatekeeper, GateOutcome
from pipeline.publishing.libraries import library_versions
from pipeline.publishing.publish import Artifact, Replay, publish
from pipeline.publishing.verify import Deviation
from pipeline.recipe.evaluate_settings import check_classes
from pipeline.recipe.recipe import Recipe
from pipeline.report.architecture import describe_network
from pipeline.report.card import read_card
from pipeline.report.pictures import draw_pictures
from pipeline.report.report import write_reports
from pipeline.run.preparation import Images, input_spec, prepare_images
from pipeline.run.resume import RunRecord, check_same, check_unfinished, read_record
from pipeline.run_folder import claimed, new_folder
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.continued import MODEL_FILE, find_start, start_classifier
from pipeline.training.train import make_repeatable, train

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


@dataclass(frozen=True)
class _Job:
    """What a run is to do; attributes as `run` takes them."""

    location: Path
    recipe: Recipe
    store: ModelStore
    name: str
    runs_dir: Path
    force: bool


def run(
    location: Path, recipe: Recipe, store: ModelStore, *, name: str, runs_dir: Path, force: bool = False
) -> RunResult:
    """Train on a folder, zip or table of images and publish the result.

    Raises:
        PipelineError, ContractError: with the reason; what was served goes on being served.
    """
    check_name(name)
    return _carry_out(_Job(location, recipe, store, name, runs_dir, force), None)


def resume(folder: Path, store: ModelStore, *, location: Path | None = None, recipe: Recipe | None = None) -> RunResult:
    """Go on with a run that was stopped, from the epoch after the last that it finished.

    Args:
        folder: the run's, as `find_stopped` gives it.
        store: where it publishes.
        location: the set, if it has moved.
        recipe: must be the one that the run was started with; None takes that one.

    Raises:
        ResumeError: if the run has ended, is still going on, or its set, recipe or weights have changed.
        PipelineError, ContractError: as `run`.
    """
    record, started = read_record(folder)
    check_unfinished(folder, folder.parent.name, store)
    name, runs_dir = folder.parent.name, folder.parent.parent
    job = _Job(location or Path(record.location), recipe or started, store, name, runs_dir, record.force)
    return _carry_out(job, folder)


@dataclass(frozen=True)
class _Start:
    """What is known before there is a folder: a job that cannot start leaves nothing behind."""

    dataset: Dataset
    weights: Weights
    spec: InputSpec
    card: dict[str, Any]


def _carry_out(job: _Job, stopped: Path | None) -> RunResult:
    """Do a job in a new folder, or in that of a stopped run."""
    start = _look_up(job)
    if stopped is not None:
        check_same(stopped, job.recipe, start.weights.provenance)
    folder = stopped or new_folder(job.runs_dir / job.name)
    with claimed(folder):
        RunRecord(str(job.location.resolve()), start.weights.provenance, job.force).write(folder)
        try:
            with uncovered_interrupts():
                result = _do_stages(job, start, folder)
        except KeyboardInterrupt:
            log.warning("To go on with this run: %s", spell_command(f"resume {job.name}/{folder.name}"))
            raise
        Checkpoints(folder).remove()
    return result


def _look_up(job: _Job) -> _Start:
    recipe = job.recipe
    spec = input_spec(recipe)
    dataset = ingest(job.location, recipe.data.columns)
    check_classes(recipe.evaluate, dataset.labels)
    card = read_card(recipe.evaluate.card, dataset.labels)
    return _Start(dataset, find_start(recipe.model, job.store, job.runs_dir), spec, card)


def _do_stages(job: _Job, start: _Start, folder: Path) -> RunResult:
    recipe, dataset, weights, spec = job.recipe, start.dataset, start.weights, start.spec
    clock = _Clock()
    with clock.stage("audit"):
        images = prepare_images(dataset, recipe, spec, folder)
    with clock.stage("train"):
        make_repeatable(recipe.train.seed)
        classifier = start_classifier(recipe.model, weights, labels=dataset.labels, channels=spec.channels)
        history = train(classifier, images.manifest, dataset.labels, images.pixels, recipe, folder)
        classifier.model.save(folder / MODEL_FILE)
    with clock.stage("evaluate"):
        evaluation = _evaluate(classifier, images, recipe, folder)
        baseline = fit_to_images(images.manifest, images.pixels)
    document = {
        "name": job.name,
        "run": folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": job.location.name,
        "weights": weights.provenance,
        "head": classifier.head,
        "saliency": classifier.saliency,
        "recipe": recipe.model_dump(mode="json"),
        "input": asdict(spec),
        **images.document(),
        "warnings": images.warnings + evaluation.warnings,
        "training": asdict(history),
        **evaluation.document(),
        "baseline": baseline.document() if baseline else None,
        "network": describe_network(classifier),
        "card": start.card,
        "versions": library_versions(),
        "timings": clock.seconds,
    }
    with clock.stage("report"):
        pictures = draw_pictures(classifier, evaluation, images.manifest.of("test"), dataset.labels, images.pixels)
        report = write_reports(folder, document, pictures, images.manifest.rows)
    with clock.stage("publish"):
        contract = _contract(document, dataset.labels, spec, images.manifest.sha256, folder / MODEL_FILE)
        published = publish(
            Artifact(job.name, classifier, contract, report),
            Replay(images.pixels, [row.path for row in images.manifest.of("test")], evaluation.expected),
            Contender(dataset.labels, images.manifest, weights.provenance, dataset.source, evaluation.expected),
            Gatekeeper(recipe.evaluate.gate, job.store, job.runs_dir, force=job.force),
        )
    outcome = {"version": published.version, "gate": published.gate.document()}
    _write_json(folder / "metrics.json", {**document, **outcome})
    directory = job.store.version_path(job.name, published.version)
    return RunResult(
        job.name, published.version, folder, directory, evaluation.test, published.deviations, published.gate
    )


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
        "metrics": {key: document["test"][key] for key in ("images", *metric_names("contract"))},
    }
    return ModelContract.from_document(
        build_document(
            [Label(label, label) for label in labels],
            spec,
            saliency=document["saliency"],
            temperature=document["temperature"],
            tolerance=recipe["export"]["tolerance"],
            operating_points=contract_points(document["operating_points"]),
            baseline=document["baseline"],
            provenance=provenance,
        )
    )


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
