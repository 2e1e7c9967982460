"""The precision at which a stage trains: float32, or `mixed_bfloat16` where a few measured steps show that it pays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import keras

from engine.processor import processor_flags
from pipeline.networks.network import Classifier

FLOAT32, MIXED, AUTO = "float32", "mixed_bfloat16", "auto"  # the values of train.precision
LEAST_GAIN = 1.3  # times as fast as at float32
TIMED_STEPS = 4  # measured at each precision; one before them traces
_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class StagePrecision:
    """The precision of a stage whose recipe does not say float32.

    Attributes:
        used: the layers of the backbone compute at it; the head is float32.
        step_s: the shortest of TIMED_STEPS steps at each precision, seconds; empty where nothing was measured.
        reason: of the choice, in words.
    """

    used: str
    step_s: dict[str, float]
    reason: str

    def document(self) -> dict[str, Any]:
        """Return what checkpoints, metrics.json and the contract hold."""
        return {**asdict(self), "step_s": {name: float(f"{value:.4g}") for name, value in self.step_s.items()}}


@contextmanager
def computing_at(classifier: Classifier, precision: str) -> Iterator[None]:
    """Let the backbone's layers compute at a precision; variables stay float32, and so do the layers afterwards.

    Only functions that are traced within have the precision.
    """
    before = [layer.dtype_policy for layer in classifier.backbone_layers]
    try:
        if precision != FLOAT32:
            for layer in classifier.backbone_layers:
                layer.dtype_policy = precision
        yield
    finally:
        for layer, policy in zip(classifier.backbone_layers, before, strict=True):
            layer.dtype_policy = policy


def choose_precision(
    wanted: str, *, trains_backbone: bool, measure: Callable[[str], Sequence[float]]
) -> StagePrecision:
    """Return the precision of a stage.

    Args:
        wanted: `train.precision`.
        trains_backbone: whether the stage computes layers of the backbone.
        measure: trains TIMED_STEPS steps at a precision and returns their seconds.
    """
    if not trains_backbone:
        return StagePrecision(FLOAT32, {}, "only the head trains")
    if wanted != AUTO:
        return StagePrecision(wanted, {}, "the recipe names it")
    if not has_bfloat16():
        return StagePrecision(FLOAT32, {}, "no device of this machine computes at bfloat16")
    seconds = {precision: min(measure(precision)) for precision in (FLOAT32, MIXED)}
    gain = seconds[FLOAT32] / seconds[MIXED]
    used = MIXED if gain >= LEAST_GAIN else FLOAT32
    return StagePrecision(used, seconds, f"a step at {MIXED} is {gain:.2f} times as fast; {LEAST_GAIN} are asked for")


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16, or there is a GPU."""
    import tensorflow as tf

    return bool(_FLAGS & processor_flags() or tf.config.list_physical_devices("GPU"))


class StepTimes(keras.callbacks.Callback):
    """Notes the seconds of each step but the first, which traces."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop the clock when the step's loss is there."""
        float(logs["loss"])
        if batch:
            self.seconds.append(time.perf_counter() - self._began)
