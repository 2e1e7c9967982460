"""Learning rates, step by step, and when to stop: plain numbers, so that a checkpoint can hold all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras

from pipeline.recipe.training_settings import Train
from pipeline.training.unfreezing import Stage, rate_of


@dataclass
class Patience:
    """Counts the epochs without a better loss.

    Attributes:
        best: lowest loss so far.
        waited: epochs since then.
    """

    best: float = math.inf
    waited: int = 0

    def update(self, loss: float) -> None:
        """Take in the loss of one more epoch."""
        improved = loss < self.best
        self.best = min(self.best, loss)
        self.waited = 0 if improved else self.waited + 1


@dataclass
class Plateau:
    """The state of `schedule: plateau`.

    Attributes:
        patience: epochs without improvement since the last one or the last reduction.
        scale: factor of the stage's rate.
    """

    patience: Patience
    scale: float = 1.0

    def update(self, loss: float, settings: Train) -> None:
        """Take in the validation loss of one more epoch."""
        self.patience.update(loss)
        if self.patience.waited >= settings.plateau.patience:
            self.scale *= settings.plateau.factor
            self.patience.waited = 0


def learning_rate(stage: Stage, settings: Train, step: int, *, steps_per_epoch: int, scale: float) -> float:
    """Return the rate of one step.

    Args:
        stage: its learning_rate is reached by the warm-up.
        settings: schedule and warm-up.
        step: counted from 0 over the stage.
        steps_per_epoch: batches an epoch.
        scale: of the plateau schedule.
    """
    highest = rate_of(stage)
    warmup = min(settings.warmup_epochs, stage.epochs) * steps_per_epoch
    if step < warmup:
        return highest * (step + 1) / warmup
    if settings.schedule == "cosine":
        progress = (step - warmup) / (stage.epochs * steps_per_epoch - warmup)
        return highest * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.schedule == "plateau":
        return max(highest * scale, min(highest, settings.plateau.min_learning_rate))
    return highest


class LearningRates(keras.callbacks.Callback):
    """Sets the optimizer's rate before every step.

    Args:
        stage: the round of training.
        settings: schedule and warm-up.
        steps_per_epoch: batches an epoch.
        plateau: of the plateau schedule; updated by the caller, with the validation loss.
    """

    def __init__(self, stage: Stage, settings: Train, steps_per_epoch: int, plateau: Plateau) -> None:
        super().__init__()
        self._stage = stage
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch
        self._plateau = plateau
        self._first_step = 0
        self._rate: float | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note where the epoch starts."""
        self._first_step = epoch * self._steps_per_epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of the step where it differs from that of the step before."""
        rate = learning_rate(
            self._stage,
            self._settings,
            self._first_step + batch,
            steps_per_epoch=self._steps_per_epoch,
            scale=self._plateau.scale,
        )
        if rate != self._rate:
            self.model.optimizer.learning_rate = self._rate = rate
