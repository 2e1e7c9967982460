"""Decides whether a faster precision is equivalent to float32, by probabilities of the same images at both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from pipeline.data.split import Manifest, ManifestRow, choose_rows
from pipeline.evaluation.bootstrap import GroupBootstrap
from pipeline.metrics.table import Predictions, find_metric

MIN_IMAGES = 299  # the fewest by which 0 changed predictions keep the bound below MAX_CHANGED
MAX_IMAGES = 2000
MAX_CHANGED = 0.01  # share of predictions that may change, by its upper bound
MAX_LOG_LOSS_RISE = 0.01  # nats an image, by its upper bound
LEVEL = 0.95  # of the one-sided bounds
MOVED = 0.95  # share of images whose probabilities move by at most the tolerance
_CLEAR = 2  # gap of a clear prediction, as a multiple of the tolerance
_LEAST = 1e-7  # probability, in logarithms
_LAST_BITS = 1e-6  # of a difference of float32 probabilities


@dataclass(frozen=True)
class Limits:
    """What a faster precision may change.

    Attributes:
        tolerance: how far it may move a probability.
        metric: of the gate.
        margin: how much worse the metric may be, beside one image.
    """

    tolerance: float
    metric: str
    margin: float


@dataclass(frozen=True)
class Evidence:
    """Images by which a precision is judged.

    Attributes:
        rows: validation images, then training images.
        targets: their class indices, shape (images,); None where they are not known.
    """

    rows: tuple[ManifestRow, ...]
    targets: NDArray[np.int64] | None

    @property
    def validation(self) -> NDArray[np.bool_]:
        """True for validation images, shape (images,)."""
        return np.array([row.split == "val" for row in self.rows], np.bool_)

    def without(self, paths: Collection[str]) -> NDArray[np.intp]:
        """Return the positions of the images that are not among `paths`."""
        return np.flatnonzero([row.path not in paths for row in self.rows])

    def is_enough_without(self, paths: Iterable[str]) -> bool:
        """Return whether the images that are not among `paths` are enough to judge by."""
        return len(self.without(frozenset(paths))) >= MIN_IMAGES

    def at(self, positions: NDArray[np.intp]) -> Evidence:
        """Return the images at some positions."""
        targets = None if self.targets is None else self.targets[positions]
        return Evidence(tuple(self.rows[i] for i in positions), targets)


@dataclass(frozen=True)
class Equivalence:
    """A comparison of a faster precision with float32, as verification.json holds it.

    Attributes:
        engine: such as "openvino".
        precision: such as "bfloat16".
        equivalent: the verdict.
        reasons: each condition that is not met, in words.
        images: how many were compared, validation and training.
        validation_images: how many of them are validation images.
        changed_predictions: images whose most probable class differs.
        changed_bound: upper bound on the share of changed predictions.
        changed_in_validation: changed predictions among the validation images alone.
        clear_changed: changed predictions whose float32 gap is at least twice the tolerance.
        deviation_95: the movement that 95 % of the images do not exceed; an image's is its largest of a probability.
        max_deviation: the largest movement.
        log_loss_rise: mean over validation images, nats.
        log_loss_rise_bound: its upper bound.
        metric: of the gate.
        float32_value: on validation images.
        value: the same at the faster precision.
        float32_calibration_error: expected calibration error on validation images, reported only.
        calibration_error: the same at the faster precision.
        labelled: whether classes of images were known. Without them the mean divergence from float32's probabilities is
            judged in place of log loss and metric: the rise of the log loss that there is if those are right.
        divergence: Kullback and Leibler's, mean over the images, nats.
        divergence_bound: its upper bound.
    """

    engine: str
    precision: str
    equivalent: bool
    reasons: tuple[str, ...]
    images: int
    validation_images: int
    changed_predictions: int = 0
    changed_bound: float = 1.0
    changed_in_validation: int = 0
    clear_changed: int = 0
    deviation_95: float = 0.0
    max_deviation: float = 0.0
    log_loss_rise: float = 0.0
    log_loss_rise_bound: float | None = None
    metric: str = ""
    float32_value: float | None = None
    value: float | None = None
    float32_calibration_error: float | None = None
    calibration_error: float | None = None
    labelled: bool = True
    divergence: float | None = None
    divergence_bound: float | None = None

    def document(self) -> dict[str, Any]:
        """Return what verification.json holds: numbers of six significant digits."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        rounded = {key: float(f"{v:.6g}") if isinstance(v, float) else v for key, v in values.items()}
        return {**rounded, "reasons": list(self.reasons)}

    @property
    def words(self) -> str:
        """The outcome in a line."""
        if not self.equivalent:
            return f"not equivalent to float32: {'; '.join(self.reasons)}"
        changed = (
            f"equivalent to float32: {self.changed_predictions} of {self.images} predictions changed (at most "
            f"{self.changed_bound:.2%})"
        )
        if not self.labelled:
            return f"{changed}; judged without labels"
        return f"{changed}, {self.changed_in_validation} of {self.validation_images} in validation"


def choose_evidence(manifest: Manifest, labels: Sequence[str], *, seed: int) -> Evidence:
    """Choose validation images, and training images to fill them up, by seed.

    Args:
        manifest: of the run.
        labels: class ids in index order.
        seed: of the choice.

    Returns:
        At most MAX_IMAGES.
    """
    rows: list[ManifestRow] = []
    for split in ("val", "train"):
        rows += choose_rows(manifest.of(split), MAX_IMAGES - len(rows), seed=seed)
    index = {label: i for i, label in enumerate(labels)}
    return Evidence(tuple(rows), np.array([index[row.label] for row in rows], np.int64))


def judge(
    engine: str,
    precision: str,
    evidence: Evidence,
    expected: NDArray[np.float32],
    received: NDArray[np.float32],
    limits: Limits,
) -> Equivalence:
    """Compare probabilities at a faster precision with those at float32.

    Args:
        engine: the runtime's name.
        precision: that computed `received`.
        evidence: the images.
        expected: at float32, shape (images, classes).
        received: of the same shape.
        limits: what may change.
    """
    num_images, validation = len(evidence.rows), evidence.validation
    if num_images < MIN_IMAGES:
        return too_few(engine, precision, evidence)
    if not np.isfinite(received).all():
        reason = "a probability is not finite"
        return Equivalence(engine, precision, False, (reason,), num_images, int(validation.sum()))
    moved = np.abs(received.astype(np.float64) - expected).max(axis=1)
    changed = received.argmax(axis=1) != expected.argmax(axis=1)
    first_two = np.partition(expected.astype(np.float64), -2, axis=1)[:, -2:]
    clear = int((changed & (first_two[:, 1] - first_two[:, 0] >= _CLEAR * limits.tolerance - _LAST_BITS)).sum())
    bound = changed_bound(int(changed.sum()), num_images)
    deviation = float(np.quantile(moved, MOVED, method="higher"))
    reasons = []
    if clear:
        gap = _CLEAR * limits.tolerance
        reasons.append(f"{clear} changed predictions had a gap of {gap:g} or more between first and second class")
    if bound > MAX_CHANGED:
        reasons.append(
            f"{int(changed.sum())} of {num_images} predictions changed, a share of at most {bound:.2%} "
            f"with {LEVEL:.0%} confidence; the limit is {MAX_CHANGED:.0%}"
        )
    if deviation > limits.tolerance + _LAST_BITS:
        reasons.append(f"{MOVED:.0%} of images move by up to {deviation:.3g}; the tolerance is {limits.tolerance:g}")
    figures: dict[str, Any] = {}
    if evidence.targets is None:
        figures, more = _judge_divergence(evidence, expected, received)
        reasons += more
    elif validation.any():
        figures, more = _judge_validation(evidence, evidence.targets, expected, received, limits)
        reasons += more
    else:
        reasons.append("there are no validation images")
    return Equivalence(
        engine,
        precision,
        not reasons,
        tuple(reasons),
        num_images,
        int(validation.sum()),
        changed_predictions=int(changed.sum()),
        changed_bound=bound,
        changed_in_validation=int(changed[validation].sum()),
        clear_changed=clear,
        deviation_95=deviation,
        max_deviation=float(moved.max()),
        **figures,
    )


def too_few(engine: str, precision: str, evidence: Evidence) -> Equivalence:
    """Return the verdict on a model with fewer than MIN_IMAGES images to judge by."""
    kinds = "images" if evidence.targets is None else "validation and training images"
    reason = f"expected at least {MIN_IMAGES} {kinds}. Received: {len(evidence.rows)}"
    return Equivalence(engine, precision, False, (reason,), len(evidence.rows), int(evidence.validation.sum()))


def changed_bound(changed: int, images: int) -> float:
    """Return Clopper and Pearson's one-sided upper bound on the share of changed predictions.

    Args:
        changed: images whose prediction differs.
        images: all of them, at least 1.
    """
    return 1.0 if changed >= images else float(beta.ppf(LEVEL, changed + 1, images - changed))


def _judge_divergence(
    evidence: Evidence, expected: NDArray[np.float32], received: NDArray[np.float32]
) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of images without labels, and what speaks against the precision."""
    before, after = (np.maximum(values.astype(np.float64), _LEAST) for values in (expected, received))
    divergences = (before * (np.log(before) - np.log(after))).sum(axis=1)
    bound = _upper_bound(divergences, GroupBootstrap([row.group for row in evidence.rows]))
    reasons = []
    if bound is None or bound > MAX_LOG_LOSS_RISE:
        shown = "unknown, as all images are of one group" if bound is None else f"at most {bound:.3g}"
        reasons.append(
            f"the mean divergence from float32 is {divergences.mean():.3g}, {shown} with {LEVEL:.0%} confidence; the "
            f"limit is {MAX_LOG_LOSS_RISE:g}"
        )
    return {"labelled": False, "divergence": float(divergences.mean()), "divergence_bound": bound}, reasons


def _judge_validation(
    evidence: Evidence,
    classes: NDArray[np.int64],
    expected: NDArray[np.float32],
    received: NDArray[np.float32],
    limits: Limits,
) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of the validation images, and what speaks against the precision."""
    chosen, reasons = np.flatnonzero(evidence.validation), []
    targets = classes[chosen]
    before, after = Predictions(expected[chosen], targets), Predictions(received[chosen], targets)
    rises = _log_losses(after) - _log_losses(before)
    groups = GroupBootstrap([evidence.rows[i].group for i in chosen])
    bound = _upper_bound(rises, groups)
    if bound is None:
        reasons.append(f"expected validation images of at least 2 groups. Received: {groups.num_groups}")
    elif bound > MAX_LOG_LOSS_RISE:
        reasons.append(
            f"the log loss rises by {rises.mean():.3g} in validation, at most {bound:.3g} with {LEVEL:.0%} "
            f"confidence; the limit is {MAX_LOG_LOSS_RISE:g}"
        )
    metric, calibration = find_metric(limits.metric), find_metric("expected_calibration_error")
    old, new = metric.compute(before), metric.compute(after)
    worse_by = new - old if metric.lower_is_better else old - new
    allowed = limits.margin + 1 / len(chosen)
    if not worse_by <= allowed + 1e-9:
        reasons.append(f"{metric.words} goes from {old:.4f} to {new:.4f} in validation; {allowed:.4f} may be lost")
    figures = {
        "log_loss_rise": float(rises.mean()),
        "log_loss_rise_bound": bound,
        "metric": limits.metric,
        "float32_value": old,
        "value": new,
        "float32_calibration_error": calibration.compute(before),
        "calibration_error": calibration.compute(after),
    }
    return figures, reasons


def _upper_bound(values: NDArray[np.float64], groups: GroupBootstrap) -> float | None:
    """Return the upper bound on a mean, by resampling groups; None for fewer than two of them."""
    if groups.num_groups < 2:
        return None
    means = [(block @ values) / block.sum(axis=1) for block in groups.weights()]
    return float(np.quantile(np.concatenate(means), LEVEL))


def _log_losses(predictions: Predictions) -> NDArray[np.float64]:
    rows = np.arange(len(predictions.targets))
    chosen = predictions.probabilities[rows, predictions.targets].astype(np.float64)
    return np.asarray(-np.log(np.maximum(chosen, _LEAST)))
