"""The evaluation stage: calibrated on validation images, measured on test images, as the served graph answers."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from contract.model import Label, ModelContract, build_document
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.evaluation.calibration import fit_temperature, softmax
from pipeline.evaluation.measure import measure
from pipeline.evaluation.operating_points import choose_points
from pipeline.evaluation.positive_class import measure_positive_class
from pipeline.evaluation.ranking import draw_curves
from pipeline.evaluation.views import ViewAverage, measure_views
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.metrics.reliability import reliability
from pipeline.metrics.table import Predictions
from pipeline.networks.graph_calls import as_graph
from pipeline.networks.network import Classifier
from pipeline.networks.saved_model import ExportedFunctions
from pipeline.recipe.evaluate_settings import Evaluate

_MAX_CURVES = 20  # classes whose ROC and precision-recall points are written down


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a classifier on its validation and test images.

    Attributes:
        temperature: fitted on the validation images.
        expected: the Keras model's calibrated probabilities of the test images, float32, shape (images, classes);
            what an export is compared with.
        served: the same from the graph that is exported; what `test` is measured on.
        targets: class indices of the test images, shape (images,).
        test: accuracy and all else, as `metrics.measure` gives it, with the positive class (`screening`) and curves.
        calibration: where the temperature comes from, reliability before and after.
        operating_points: as in metrics.json.
        warnings: on the validity of the numbers.
        functions: the signatures that compute, as they are exported; cleared by the export.
        tta: test-time augmentation beside plain predictions, as `measure_views` gives it; None without it.
    """

    temperature: float
    expected: NDArray[np.float32]
    served: NDArray[np.float32]
    targets: NDArray[np.int64]
    test: dict[str, Any]
    calibration: dict[str, Any]
    operating_points: list[dict[str, Any]]
    warnings: list[str]
    functions: ExportedFunctions
    tta: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        fields = ("temperature", "test", "calibration", "operating_points")
        return {field: getattr(self, field) for field in (*fields, *(("tta",) if self.tta else ()))}


def evaluate(
    classifier: Classifier,
    manifest: Manifest,
    labels: Sequence[str],
    pixels: Pixels,
    settings: Evaluate,
    frozen: FrozenBackbone | None = None,
    views: ViewAverage | None = None,
) -> Evaluation:
    """Calibrate and choose thresholds on the validation images, measure on the test images.

    Args:
        classifier: trained.
        manifest: its val and test rows.
        labels: class names; position is the class index.
        pixels: decodes the images.
        settings: what to measure beside the usual.
        frozen: has features of images that were computed before; None where the backbone has trained.
        views: test-time augmentation to measure beside plain predictions; None without it.
    """
    val_rows, test_rows = manifest.of("val"), manifest.of("test")
    val_logits = compute_logits(classifier, val_rows, pixels, frozen)
    val_targets, targets = targets_of(val_rows, labels), targets_of(test_rows, labels)
    temperature = fit_temperature(val_logits, val_targets)
    logits = compute_logits(classifier, test_rows, pixels, frozen)
    functions = ExportedFunctions(classifier, draft_contract(labels, pixels, temperature))
    served = _served(functions["serving_default"], test_rows, pixels)
    groups = [row.group for row in test_rows]
    bootstrap = GroupBootstrap(groups)
    points, warnings = choose_points(
        settings.operating_points,
        labels,
        validation=Predictions(softmax(val_logits, temperature), val_targets),
        test=Predictions(served, targets),
        groups=bootstrap,
    )
    test = measure(served, targets, labels, groups)
    test["screening"] = measure_positive_class(served, targets, labels, settings, bootstrap)
    test["curves"] = _curves(served, targets, labels)
    return Evaluation(
        temperature=temperature,
        expected=softmax(logits, temperature),
        served=served,
        targets=targets,
        test=test,
        calibration={
            "temperature": temperature,
            "fitted_on_images": len(val_rows),
            "before": reliability(softmax(logits, 1.0), targets),
            "after": reliability(served, targets),
        },
        operating_points=[point.document() for point in points],
        warnings=warnings,
        functions=functions,
        tta=None if views is None else _measure_tta(views, functions["serving_default"], test_rows, labels, pixels),
    )


def contract_points(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the operating points that a contract can hold: those with both rates on test images."""
    fields = ("label", "threshold", "sensitivity", "specificity")
    return [{field: point[field] for field in fields} for point in points if point["sensitivity"] is not None]


def compute_logits(
    classifier: Classifier, rows: Sequence[ManifestRow], pixels: Pixels, frozen: FrozenBackbone | None = None
) -> NDArray[np.float32]:
    """Return Keras's logits of images in order, float32, shape (images, classes)."""
    kept = None if frozen is None else frozen.logits(rows)
    if kept is not None:
        return kept
    run = as_graph(keras.Model(classifier.model.input, classifier.logits))

    def compute(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return run(classifier.backbone.preprocess(images.astype(np.float32)))

    return np.concatenate(pixels.map(compute, [row.path for row in rows]))


def targets_of(rows: Sequence[ManifestRow], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return class indices, shape (images,)."""
    return np.array([labels.index(row.label) for row in rows], np.int64)


def draft_contract(labels: Sequence[str], pixels: Pixels, temperature: float) -> ModelContract:
    """Return a contract with the fields that the exported graphs need, before the others are known."""
    named = [Label(label, label) for label in labels]
    return ModelContract.from_document(build_document(named, pixels.spec, temperature=temperature))


def write_predictions(
    path: Path, rows: Sequence[ManifestRow], probabilities: NDArray[np.float32], labels: Sequence[str]
) -> None:
    """Write one CSV line an image: path, label, predicted and every class's probability."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", *(f"probability_{label}" for label in labels)])
        for row, values in zip(rows, probabilities, strict=True):
            writer.writerow([row.path, row.label, labels[int(values.argmax())], *(str(v) for v in values)])


def _answer(serve: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(serve(images)["probabilities"], np.float32)


def _served(serve: Any, rows: Sequence[ManifestRow], pixels: Pixels) -> NDArray[np.float32]:
    """Return the exported float32 graph's probabilities of uint8 pixels, shape (images, classes)."""
    return np.concatenate(pixels.map(partial(_answer, serve), [row.path for row in rows]))


def _measure_tta(
    views: ViewAverage, serve: Any, rows: Sequence[ManifestRow], labels: Sequence[str], pixels: Pixels
) -> dict[str, Any]:
    found = pixels.map(partial(views, partial(_answer, serve)), [row.path for row in rows])
    targets = targets_of(rows, labels)
    plain, averaged = (Predictions(np.concatenate(side), targets) for side in zip(*found, strict=True))
    return measure_views(views, plain, averaged, [row.group for row in rows])


def _curves(
    probabilities: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, dict[str, list[list[float]]]]:
    """Return the curves of every class that has images; of many classes, none."""
    if len(labels) > _MAX_CURVES:
        return {}
    drawn = {label: draw_curves(probabilities[:, i], targets == i) for i, label in enumerate(labels)}
    return {label: curves for label, curves in drawn.items() if curves is not None}
