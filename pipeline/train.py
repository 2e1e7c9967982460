"""Training: one or two stages, the best epoch by validation loss, and a record of every epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pipeline.errors import TrainingError
from pipeline.feature_store import FOLDER
from pipeline.network import Classifier
from pipeline.pixels import Pixels
from pipeline.progress import progress_bar
from pipeline.recipe import Recipe, Train
from pipeline.split import Manifest
from pipeline.supply import Fitting, Supply

CURVES = ("stage", "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Stage:
    """One round of training.

    Attributes:
        name: "head", "network" or "fine-tune".
        epochs: at most this many.
        learning_rate: at the start.
        trainable: the backbone layers that train; the head always does.
    """

    name: str
    epochs: int
    learning_rate: float
    trainable: frozenset[str]


@dataclass(frozen=True)
class History:
    """What training did.

    Attributes:
        curves: one record an epoch, keys as in CURVES.
        best: the record of the epoch whose weights were kept.
    """

    curves: list[dict[str, Any]]
    best: dict[str, Any]


def train(
    classifier: Classifier, manifest: Manifest, labels: Sequence[str], pixels: Pixels, recipe: Recipe, folder: Path
) -> History:
    """Train a classifier in place; it ends with the weights of the best epoch by validation loss.

    Args:
        classifier: the network.
        manifest: its train rows are augmented, its val rows are not.
        labels: class names; position is the class index.
        pixels: decodes the images.
        recipe: epochs, rates, augmentation, seed.
        folder: where checkpoints and curves.csv go.

    Raises:
        TrainingError: if the loss is not finite; the best checkpoint so far stays in `folder`.
    """
    settings = recipe.train
    features = folder.parent.parent / FOLDER
    supply = Supply(classifier, manifest, labels=labels, pixels=pixels, recipe=recipe, features=features)
    checkpoint = folder / "best.weights.h5"
    record = _Record(folder / "curves.csv", checkpoint, classifier.model)
    for stage in plan_stages(classifier, settings):
        fitting = supply.of_stage(stage.trainable)
        record.stage = stage.name
        steps = stage.epochs * len(fitting.training)
        with progress_bar(total=steps, what=f"Training, {stage.name}", unit="step") as bar:
            _fit(classifier, stage, settings, fitting, [_Progress(bar), record], first_epoch=len(record.curves))
        classifier.model.load_weights(checkpoint)
    return History(record.curves, record.best)


def plan_stages(classifier: Classifier, settings: Train) -> list[Stage]:
    """Return the rounds that a recipe asks for."""
    everything = frozenset(layer.name for layer in classifier.backbone_layers)
    first = (
        Stage("head", settings.epochs, settings.learning_rate, frozenset())
        if settings.freeze_backbone
        else Stage("network", settings.epochs, settings.learning_rate, everything)
    )
    if settings.fine_tune.epochs == 0:
        return [first]
    last = _last_blocks(classifier, settings.fine_tune.unfreeze)
    return [first, Stage("fine-tune", settings.fine_tune.epochs, settings.fine_tune.learning_rate, last)]


def _last_blocks(classifier: Classifier, unfreeze: int | str) -> frozenset[str]:
    """Return the last `unfreeze` convolutions and all after the first of them, without batch norm layers."""
    layers = classifier.backbone_layers
    convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.Conv2D)]
    start = 0 if unfreeze == "all" else convolutions[-min(int(unfreeze), len(convolutions))]
    return frozenset(layer.name for layer in layers[start:] if not isinstance(layer, keras.layers.BatchNormalization))


def _fit(
    classifier: Classifier,
    stage: Stage,
    settings: Train,
    fitting: Fitting,
    callbacks: list[Any],
    *,
    first_epoch: int,
) -> None:
    for layer in classifier.backbone_layers:
        # A layer that does not train also normalises by its stored statistics: Keras's own rule for batch norm.
        layer.trainable = layer.name in stage.trainable
    steps = stage.epochs * len(fitting.training)
    rate: Any = stage.learning_rate
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    fitting.model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    if settings.early_stopping is not None:
        callbacks = [*callbacks, keras.callbacks.EarlyStopping("val_loss", patience=settings.early_stopping.patience)]
    fitting.model.fit(
        fitting.training.dataset(first_epoch),
        validation_data=fitting.validation.dataset(),
        epochs=stage.epochs,
        steps_per_epoch=len(fitting.training),
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


class _Progress(keras.callbacks.Callback):
    """A bar over one stage, with the time left; stops on a loss that is not finite."""

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self._bar = bar
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss is {logs['loss']} in epoch {self._epoch}, batch {batch + 1}: expected a finite number. "
                "A lower train.learning_rate usually helps"
            )
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._bar.set_postfix(
            epoch=self._epoch,
            val_accuracy=f"{logs['val_accuracy']:.2f}",
            val_loss=f"{logs['val_loss']:.3f}",
            refresh=False,
        )


class _Record(keras.callbacks.Callback):
    """Writes every epoch to a CSV file, and the weights of the best one over all stages to a checkpoint."""

    def __init__(self, path: Path, checkpoint: Path, classifier: Any) -> None:
        super().__init__()
        self.stage = ""
        self.curves: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"val_loss": math.inf}
        self._path = path
        self._checkpoint = checkpoint
        self._classifier = classifier  # self.model may be the end of it alone

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"stage": self.stage, "epoch": epoch + 1, "learning_rate": rate}
        row |= {name: float(logs[name]) for name in CURVES[3:]}
        self.curves.append(row)
        if row["val_loss"] < self.best["val_loss"]:
            self.best = row
            self._classifier.save_weights(self._checkpoint)
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, CURVES)
            writer.writeheader()
            writer.writerows(self.curves)
