"""The facts of a run: typed values, serialised for metrics.json, the report and the contract."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contract.drift_baseline import DriftBaseline
from contract.model import InputSpec, Label, ModelContract, build_document
from contract.novelty import WARNING
from pipeline.data.lineage import is_file_hash
from pipeline.evaluation.evaluate import Evaluation, contract_points
from pipeline.evaluation.novelty import FittedNoveltyCheck
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.metrics.document import format_document
from pipeline.metrics.table import metric_names
from pipeline.networks.network import Classifier
from pipeline.networks.own.backbone import backbone_of, without_folder
from pipeline.networks.own.kept import kept_sha256
from pipeline.publishing.libraries import library_versions
from pipeline.publishing.publish import Published
from pipeline.recipe.recipe import Recipe
from pipeline.report.architecture import describe_network
from pipeline.run.prepare import Images
from pipeline.run.wrong_label_search import LabelSearch
from pipeline.training.train import History

METRICS_FILE = "metrics.json"
_LAST_BITS = 1e-6  # of a loss


@dataclass(frozen=True)
class Trained:
    """The training stage's result.

    Attributes:
        classifier: with the weights of the best epoch.
        history: every epoch.
        file: the Keras model on disk.
        frozen: the backbone, if it never trained and its features are kept.
        started_from: NAME/VERSION of a warm start.
    """

    classifier: Classifier
    history: History
    file: Path
    frozen: FrozenBackbone | None = None
    started_from: str | None = None

    def warm_start(self) -> dict[str, Any]:
        """Return what metrics.json and the contract hold of a warm start; empty of other trainings."""
        if self.started_from is None:
            return {}
        before, after = self.history.start, self.history.best
        return {
            "warm_start": {
                "version": self.started_from,
                "val_loss_before": before["val_loss"],
                "val_loss": after["val_loss"],
                "epochs": len(self.history.curves),
            }
        }

    def features(self) -> dict[str, Any]:
        """Return what metrics.json and the contract hold of the precision of features; empty where none was judged."""
        verdict = None if self.frozen is None else self.frozen.verdict
        return {} if verdict is None else {"features": verdict.document()}

    def warm_faults(self) -> list[str]:
        """Return why a warm start is not taken, in words: it has made the validation loss worse."""
        for facts in self.warm_start().values():
            if not facts["val_loss"] <= facts["val_loss_before"] + _LAST_BITS:
                return [
                    f"after the warm start the validation loss is {facts['val_loss']:.4f}, and {facts['version']}, "
                    f"that it started from, has {facts['val_loss_before']:.4f}"
                ]
        return []


@dataclass(frozen=True)
class Measured:
    """The evaluation stage's result.

    Attributes:
        evaluation: calibration, test metrics, operating points.
        novelty: the check for images unlike the training images; None on too few images.
        faults: why the version must not become live by itself, in words.
    """

    evaluation: Evaluation
    novelty: FittedNoveltyCheck | None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunFacts:
    """A run up to its report.

    Attributes:
        name: the model's.
        run: the run's id.
        created: UTC, ISO 8601.
        dataset: the set's folder or file name.
        weights: provenance of the weights that training started from.
        ancestors: the runs whose models it started from, as `find_ancestors` gives them.
        recipe: the run's.
        spec: how images become pixels.
        images: the set after audit and split.
        trained: the network.
        measured: its numbers.
        wrong_labels: images that are likely labelled wrong; None if the search failed.
        card: the model card's texts.
        timings: seconds by stage; grows while the run goes on.
    """

    name: str
    run: str
    created: str
    dataset: str
    weights: str
    ancestors: tuple[str | None, ...]
    recipe: Recipe
    spec: InputSpec
    images: Images
    trained: Trained
    measured: Measured
    wrong_labels: LabelSearch | None
    card: Mapping[str, Any]
    timings: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return the document that the report shows; metrics.json adds version and gate."""
        evaluation, novelty = self.measured.evaluation, self.measured.novelty
        shift = [f"{warning}." for warning in novelty.warnings] if novelty else []
        return {
            "name": self.name,
            "run": self.run,
            "created": self.created,
            "dataset": self.dataset,
            "weights": self.weights,
            "head": self.trained.classifier.head,
            "saliency": self.trained.classifier.saliency,
            "recipe": self._recipe(),
            "input": self.spec.document(),
            **self.images.document(),
            "warnings": [
                *(f"This version does not become live by itself: {fault}." for fault in self.measured.faults),
                *(f"{text}." for text in self.trained.history.warnings()),
                *self.images.warnings,
                *shift,
                *evaluation.warnings,
            ],
            "training": self.trained.history.document(),
            **self.trained.warm_start(),
            **self.trained.features(),
            **evaluation.document(),
            "baseline": novelty.document() if novelty else None,
            "wrong_labels": self.wrong_labels.document() if self.wrong_labels else None,
            "train_groups": len({row.group for row in self.images.manifest.of("train")}),
            "network": describe_network(self.trained.classifier),
            "card": dict(self.card),
            "versions": library_versions(),
            "timings": dict(self.timings),
        }

    def contract(self) -> ModelContract:
        """Return the contract of the version to be."""
        evaluation, novelty = self.measured.evaluation, self.measured.novelty
        document = build_document(
            [Label(label, label) for label in self.images.dataset.labels],
            self.spec,
            saliency=self.trained.classifier.saliency,
            embedding={"dimension": self.trained.classifier.embedding_dimension},
            temperature=evaluation.temperature,
            tolerance=self.recipe.export.tolerance,
            operating_points=contract_points(evaluation.operating_points),
            baseline=novelty.document() if novelty else None,
            drift_baseline=self._drift_baseline(),
            provenance=self._provenance(),
        )
        return ModelContract.from_document(document)

    def _drift_baseline(self) -> dict[str, Any] | None:
        """Return the served answers on the test images, as the contract holds them; None without test images."""
        evaluation, novelty = self.measured.evaluation, self.measured.novelty
        images, labels = len(evaluation.served), self.images.dataset.labels
        if not images:
            return None
        counts = np.bincount(evaluation.served.argmax(axis=1), minlength=len(labels))
        alarms = {WARNING: round(novelty.alarms / novelty.test, 6)} if novelty and novelty.test else {}
        return DriftBaseline(
            images,
            {label: round(int(count) / images, 6) for label, count in zip(labels, counts, strict=True)},
            round(float(evaluation.served.max(axis=1).mean(dtype=np.float64)), 6),
            alarms,
        ).document()

    def write(self, folder: Path, published: Published) -> None:
        """Write metrics.json."""
        outcome = {"version": published.version, "gate": published.gate.document()}
        text = format_document({**self.document(), **outcome})
        (folder / METRICS_FILE).write_text(text, encoding="utf-8")

    def _recipe(self) -> dict[str, Any]:
        return without_folder(self.recipe).model_dump(mode="json")

    def _provenance(self) -> dict[str, Any]:
        test = self.measured.evaluation.test
        source = kept_sha256(self.trained.file.parent)
        return {
            "run": self.run,
            "dataset": self.dataset,
            "weights": self.weights,
            **({"ancestors": list(self.ancestors)} if is_file_hash(self.weights) else {}),
            "recipe": self._recipe(),
            "created": self.created,
            "versions": library_versions(),
            "dataset_sha256": self.images.manifest.sha256,
            "backbone": backbone_of(self.recipe.model).name,
            "keras_model_sha256": hashlib.sha256(self.trained.file.read_bytes()).hexdigest(),
            "metrics": {key: test[key] for key in ("images", "accuracy_interval", *metric_names("contract"))},
            **({} if source is None else {"network_sha256": source}),
            **self.trained.warm_start(),
            **self.trained.features(),
            **self.trained.history.precision(),
        }
