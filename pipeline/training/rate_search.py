"""Finds a learning rate by a range test: the rate rises step by step, and the loss says where it helps and harms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.interrupt import check_interrupt
from pipeline.progress import progress_bar
from pipeline.training.unfreezing import FINE_TUNE

STEPS = 100
LOWEST, HIGHEST = 1e-7, 10.0
_SMOOTHING = 0.9  # share of the average so far in the next one
_DIVERGED = 4.0  # times the lowest loss ends the search, as in fastai
_LEAST_FALL = 0.02  # of the loss at the start of the fall
_LEAST_ERRORS = 4.5  # standard errors of the difference of two smoothed losses; a flat curve has many pairs
_LEAST_LOSSES = 10
_EDGE = 0.1  # of the height of a fall
_BEGINNING = 10  # the first tenth of the steps only starts the average, as in fastai
_DIGITS = 2  # of the suggested rate: the curve is no more exact


@dataclass(frozen=True)
class RateSearch:
    """A learning-rate range test.

    Attributes:
        rates: of each step.
        losses: smoothed, before each step's update.
        diverged: whether the search ended by a loss that grew; otherwise the highest rate was reached.
        suggested: the rate in the middle of the fall of the loss; None if there is none.
        steepest: the rate at which the loss falls fastest; None as above.
        lowest: the rate of the lowest loss; higher ones harm. None as above.
        reason: why there is no suggestion; "" if there is one.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: bool
    suggested: float | None = None
    steepest: float | None = None
    lowest: float | None = None
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """Return what checkpoints, metrics.json and the report hold."""
        curve = {"rates": self.rates, "losses": self.losses}
        return {**asdict(self), **{name: [float(f"{x:.6g}") for x in values] for name, values in curve.items()}}


def search_rate(model: Any, batches: Any, class_weights: Mapping[int, float] | None, *, steps: int) -> RateSearch:
    """Train for some steps at rising rates, and restore every variable.

    Args:
        model: compiled, with an optimizer of its own.
        batches: an endless tf.data.Dataset of training batches.
        class_weights: as Keras's `fit` takes them.
        steps: most steps; a loss that diverges ends the search earlier.
    """
    rates = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    with progress_bar(total=steps, what="Learning rate", unit="step") as bar:
        sweep = _Sweep(rates, bar)
        fit_and_restore(model, batches, class_weights, steps=steps, callback=sweep)
    return suggest_rate(rates, sweep.losses, diverged=sweep.diverged)


def fit_and_restore(
    model: Any, batches: Any, class_weights: Mapping[int, float] | None, *, steps: int, callback: Any
) -> None:
    """Train for some steps, and restore every variable; the arguments are those of `search_rate`."""
    before = [(variable, np.asarray(variable).copy()) for variable in model.variables]
    try:
        model.fit(
            batches,
            epochs=1,
            steps_per_epoch=steps,
            callbacks=[callback],
            class_weight=class_weights,
            shuffle=False,
            verbose=0,
        )
    finally:
        for variable, array in before:
            variable.assign(array)


def describe_no_rate(stage: str, found: Mapping[str, Any]) -> str:
    """Return that a stage asked for a learning rate and has the default, in words.

    Args:
        stage: its name.
        found: `RateSearch.document`, with the rate that is `used`.
    """
    key = "train.fine_tune.learning_rate" if stage == FINE_TUNE else "train.learning_rate"
    return (
        f"No learning rate lowers the loss of stage {stage} from its start: {found['reason']}. The stage trains at "
        f"{found['used']:g}, the default; give a number in {key}"
    )


class _Sweep(keras.callbacks.Callback):
    """Sets the rate of each step, notes the loss of each batch, and stops when it grows.

    Args:
        rates: of the steps.
        bar: as `progress_bar` makes it.

    Attributes:
        losses: of the batches, before each step's update; finite.
        diverged: whether the loss grew.
    """

    def __init__(self, rates: Sequence[float], bar: Any) -> None:
        super().__init__()
        self._rates = rates
        self._bar = bar
        self.losses: list[float] = []
        self.diverged = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate; Keras's loss becomes that of this batch alone."""
        self.model.optimizer.learning_rate = self._rates[batch]
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the loss, and stop when it has grown."""
        check_interrupt()
        loss = float(logs["loss"])
        self._bar.update()
        if math.isfinite(loss):
            self.losses.append(loss)
            smoothed = smooth(self.losses)
            self.diverged = bool(smoothed[-1] > _DIVERGED * smoothed.min())
        else:
            self.diverged = True
        self.model.stop_training = self.diverged


def smooth(losses: Sequence[float]) -> NDArray[np.float64]:
    """Return the exponential moving average, corrected for its start."""
    smoothed, average = [], 0.0
    for i, loss in enumerate(losses, 1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed.append(average / (1 - _SMOOTHING**i))
    return np.array(smoothed)


def suggest_rate(rates: Sequence[float], losses: Sequence[float], *, diverged: bool) -> RateSearch:
    """Return the range test of the losses of some steps.

    The suggestion is the middle of the longest fall before the lowest loss, as fastai's valley, without the parts that
    are hardly a fall: the first and the last tenth of its height.

    Args:
        rates: of the steps, rising; those without a loss are left out.
        losses: of the batches.
        diverged: whether the search ended by a loss that grew.
    """
    smoothed = smooth(losses)
    search = RateSearch(tuple(rates[: len(smoothed)]), tuple(smoothed.tolist()), diverged)
    if len(smoothed) < _LEAST_LOSSES:
        return replace(search, reason=f"it diverged after {len(smoothed)} steps")
    begin = len(smoothed) // _BEGINNING
    start, end = _longest_fall(smoothed, begin, max(begin, int(smoothed.argmin())))
    top, bottom = smoothed[start], smoothed[end]
    errors = _standard_errors(np.asarray(losses[: end + 1]))
    needed = max(_LEAST_FALL * top, _LEAST_ERRORS * math.hypot(errors[start], errors[end]))
    if not top - bottom > needed:
        fell = f"it falls by {top - bottom:.2g} from {top:.3g}, and batches alone differ by up to {needed:.2g}"
        return replace(search, reason=fell)
    edge = _EDGE * (top - bottom)
    first = start + int(np.flatnonzero(smoothed[start : end + 1] >= top - edge)[-1])
    last = first + int(np.flatnonzero(smoothed[first : end + 1] <= bottom + edge)[0])
    steepest = first + int(np.diff(smoothed[first : last + 1]).argmin())
    return replace(
        search,
        suggested=_rounded(rates[(first + last) // 2]),
        steepest=_rounded(rates[steepest]),
        lowest=_rounded(rates[end]),
    )


def _longest_fall(losses: NDArray[np.float64], first: int, last: int) -> tuple[int, int]:
    """Return the first and the last place of the longest decreasing subsequence between two places."""
    lengths, starts = np.ones(len(losses), int), np.arange(len(losses))
    for i in range(first + 1, last + 1):
        higher = first + np.flatnonzero(losses[first:i] > losses[i])
        if len(higher):
            best = higher[lengths[higher].argmax()]
            lengths[i], starts[i] = lengths[best] + 1, starts[best]
    end = first + int(lengths[first : last + 1].argmax())
    return int(starts[end]), end


def _standard_errors(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard error of each smoothed loss, from the differences of neighbouring batches."""
    spread = np.sqrt(np.mean(np.diff(losses) ** 2) / 2) if len(losses) > 1 else 0.0
    left = _SMOOTHING ** np.arange(1, len(losses) + 1)  # of the average's start
    return np.asarray(spread * np.sqrt((1 - _SMOOTHING) / (1 + _SMOOTHING) * (1 + left) / (1 - left)))


def _rounded(rate: float) -> float:
    return float(f"{rate:.{_DIGITS}g}")
