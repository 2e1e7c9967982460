"""A whole run: ingest, audit, split, train, calibrate, evaluate, export, verify, publish; each stage written down."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml
from numpy.typing import NDArray

from contract.model import InputSpec, Label, ModelContract, build_document
from contract.store import ModelStore, check_name
from pipeline.audit import Audit, audit, check_audit
from pipeline.backbones import find_backbone
from pipeline.evaluate import (
    compute_logits,
    fit_temperature,
    measure,
    softmax,
    targets_of,
    write_predictions,
)
from pipeline.export import SALIENCY
from pipeline.ingest import Dataset, ingest
from pipeline.network import Classifier, build_classifier, input_size
from pipeline.pixels import Pixels
from pipeline.publish import Replay, publish
from pipeline.recipe import Recipe
from pipeline.report import write_report
from pipeline.split import Manifest, earlier_sides, groups_on_two_sides, split_images, split_table
from pipeline.train import train
from pipeline.verify import Deviation
from pipeline.weights import find_weights

log = logging.getLogger(__name__)

# What people keep beside images; anything else that is no image may be one in a format that is not read.
_NOTES = frozenset({".csv", ".html", ".json", ".md", ".pdf", ".txt", ".xlsx", ".xml", ".yaml"})


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
    """

    name: str
    version: int
    folder: Path
    directory: Path
    test: dict[str, Any]
    deviations: list[Deviation]


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
class _Images:
    """What the stages before training found out."""

    dataset: Dataset
    found: Audit
    manifest: Manifest
    pixels: Pixels
    warnings: list[str]


@dataclass(frozen=True)
class _Evaluation:
    """What the classifier makes of the test images."""

    temperature: float
    probabilities: NDArray[np.float32]
    test: dict[str, Any]


def run(location: Path, recipe: Recipe, store: ModelStore, *, name: str, runs_dir: Path) -> RunResult:
    """Train on a folder or zip of images and publish the result.

    Raises:
        PipelineError, ContractError: with the reason; what was served goes on being served.
    """
    check_name(name)
    clock = _Clock()
    spec = _input_spec(recipe)
    dataset = ingest(location)
    weights = find_weights(find_backbone(recipe.model.backbone), recipe.model.weights)
    folder = _new_folder(runs_dir / name)
    with clock.stage("audit"):
        images = _look_at(dataset, recipe, spec, folder)
    with clock.stage("train"):
        keras.utils.set_random_seed(recipe.train.seed)
        classifier = build_classifier(recipe.model, weights, num_classes=len(dataset.labels), channels=spec.channels)
        history = train(classifier, images.manifest, dataset.labels, images.pixels, recipe, folder)
        classifier.model.save(folder / "model.keras")
    with clock.stage("evaluate"):
        evaluation = _evaluate(classifier, images, folder)
    document = {
        "name": name,
        "run": folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": location.name,
        "weights": weights.provenance,
        "recipe": recipe.model_dump(mode="json"),
        "input": asdict(spec),
        **_about_images(images),
        "training": asdict(history),
        "temperature": evaluation.temperature,
        "test": evaluation.test,
        "versions": _versions(),
        "timings": clock.seconds,
    }
    write_report(folder / "report.html", {**document, "recipe_yaml": (folder / "recipe.yaml").read_text()})
    with clock.stage("publish"):
        contract = _contract(document, dataset.labels, spec, images.manifest.sha256, folder / "model.keras")
        replay = Replay(images.pixels, [row.path for row in images.manifest.of("test")], evaluation.probabilities)
        published = publish(classifier, contract, replay, store, name=name, report=folder / "report.html")
    _write_json(folder / "metrics.json", {**document, "version": published.version})
    directory = store.version_path(name, published.version)
    return RunResult(name, published.version, folder, directory, evaluation.test, published.deviations)


def _input_spec(recipe: Recipe) -> InputSpec:
    model, color = recipe.model, recipe.data.color
    size = input_size(model, find_backbone(model.backbone))
    return InputSpec(size, size, 1 if color == "grey" else 3, color, resize=model.resize, fit=model.fit)


def _look_at(dataset: Dataset, recipe: Recipe, spec: InputSpec, folder: Path) -> _Images:
    """Audit and split; the recipe, the audit and the manifest are written down, also when the set is refused."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    pixels = Pixels(dataset.source, spec)
    found = audit(dataset, pixels)
    _write_json(folder / "audit.json", {"problems": [asdict(p) for p in found.problems], "ignored": dataset.ignored})
    check_audit(found, dataset.labels, on_unreadable=recipe.data.on_unreadable)
    manifest = split_images(found.images, recipe.data, recipe.train.seed, earlier_sides(folder.parent))
    manifest.write(folder / "manifest.csv")
    warnings = _warnings(dataset, found, manifest, recipe)
    for warning in warnings:
        log.warning("%s", warning)
    return _Images(dataset, found, manifest, pixels, warnings)


def _evaluate(classifier: Classifier, images: _Images, folder: Path) -> _Evaluation:
    """Calibrate on the validation images, measure on the test images, write each prediction down."""
    labels, val_rows, test_rows = images.dataset.labels, images.manifest.of("val"), images.manifest.of("test")
    temperature = fit_temperature(compute_logits(classifier, val_rows, images.pixels), targets_of(val_rows, labels))
    probabilities = softmax(compute_logits(classifier, test_rows, images.pixels), temperature)
    write_predictions(folder / "predictions.csv", test_rows, probabilities, labels)
    return _Evaluation(temperature, probabilities, measure(probabilities, targets_of(test_rows, labels), labels))


def _about_images(images: _Images) -> dict[str, Any]:
    return {
        "labels": list(images.dataset.labels),
        "splits": split_table(images.manifest),
        "num_groups": len({row.group for row in images.manifest.rows}),
        "num_problems": len(images.found.problems),
        "warnings": images.warnings,
    }


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
            saliency=SALIENCY[recipe["model"]["head"]],
            temperature=document["temperature"],
            tolerance=recipe["export"]["tolerance"],
            operating_points=[],
            provenance=provenance,
        )
    )


def _new_folder(parent: Path) -> Path:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = parent / f"{now}-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    return folder


def _warnings(dataset: Dataset, found: Audit, manifest: Manifest, recipe: Recipe) -> list[str]:
    warnings = []
    if unexpected := {suffix: count for suffix, count in dataset.ignored.items() if suffix not in _NOTES}:
        left_out = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unexpected.items()))
        warnings.append(f"Files that are not images were left out: {left_out}.")
    if found.problems:
        warnings.append(f"{len(found.problems)} images cannot be read and were left out; audit.json names them.")
    if recipe.data.group is None:
        warnings.append(
            "No group rule: two images of one patient may be on both sides of a split, which flatters the numbers. "
            "Name the patient with --set data.group=REGEX."
        )
    if shared := groups_on_two_sides(manifest):
        warnings.append(
            f"{len(shared)} groups are on more than one side of the split that the set's folders make, "
            f"such as {', '.join(shared[:3])}: the numbers below are flattered."
        )
    missing = sorted(set(dataset.labels) - {row.label for row in manifest.of("test")})
    if missing:
        warnings.append(f"No test images of {', '.join(missing)}.")
    return warnings


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "numpy", "pillow", "scipy")
    return {"python": platform.python_version()} | {name: package_version(name) for name in packages}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
