"""Keras callbacks of a training: progress bar, watch on the loss, record and checkpoint of each epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pipeline.errors import TrainingError
from pipeline.interrupt import check_interrupt
from pipeline.recipe.training_settings import Train
from pipeline.training.checkpoint import Checkpoints, TrainingState, save_best
from pipeline.training.optimization import of_first_output
from pipeline.training.unfreezing import Stage

CURVES = ("stage", "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy")


class Progress(keras.callbacks.Callback):
    """A bar over one stage, with the time left; stops on a loss that is not finite, and on Ctrl-C.

    Args:
        bar: as `progress_bar` makes it.
    """

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self._bar = bar
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar.

        Raises:
            TrainingError: if the loss is not finite.
            KeyboardInterrupt: if one got lost since the last batch.
        """
        check_interrupt()
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss is {logs['loss']} in epoch {self._epoch}, batch {batch + 1}: expected a finite number. "
                "A lower train.learning_rate usually helps"
            )
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Show the epoch's figures."""
        logs = of_first_output(logs, self.model)
        self._bar.set_postfix(
            epoch=self._epoch,
            val_accuracy=f"{logs['val_accuracy']:.2f}",
            val_loss=f"{logs['val_loss']:.3f}",
            refresh=False,
        )


@dataclass(frozen=True)
class Logbook:
    """Records the epochs of a run.

    Args:
        folder: the run's, for curves.csv and the best weights.
        network: the whole classifier; the fitted model may be its trainable part alone.
        state: where training stands; changed in place.
        checkpoints: of the run.
    """

    folder: Path
    network: Any
    state: TrainingState
    checkpoints: Checkpoints


class EpochEnd(keras.callbacks.Callback):
    """After each epoch: curves.csv, the weights to keep, patience, and a checkpoint to go on from.

    Args:
        logbook: where it is written.
        stage: the round of training.
        settings: patience and schedule.
    """

    def __init__(self, logbook: Logbook, stage: Stage, settings: Train) -> None:
        super().__init__()
        self._logbook = logbook
        self._stage = stage
        self._settings = settings

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the epoch down and decide whether there is another."""
        state, settings = self._logbook.state, self._settings
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row: dict[str, Any] = {"stage": self._stage.name, "epoch": epoch + 1, "learning_rate": rate}
        figures = of_first_output(logs, self.model)
        row |= {name: float(figures[name]) for name in CURVES[3:]}
        state.curves.append(row)
        if settings.weights_of == "last" or not state.best or row["val_loss"] < state.best["val_loss"]:
            state.best = row
            save_best(self._logbook.network, self._logbook.folder)
        write_curves(self._logbook.folder / "curves.csv", state.curves)
        state.epoch = epoch + 1
        state.plateau.update(row["val_loss"], settings)
        state.stopping.update(row["val_loss"])
        state.stopped = (
            settings.early_stopping is not None and state.stopping.waited >= settings.early_stopping.patience
        )
        self.model.stop_training = state.stopped
        self._logbook.checkpoints.save(state, self._logbook.network, self.model.optimizer)


class TensorBoard(keras.callbacks.Callback):
    """Writes an event file of the network's graph and of the curves that any TensorBoard reads.

    Args:
        folder: of the event files.
        stage: prefixes every tag.
        first_epoch: epochs before this stage.
        network: whose graph is written before the first epoch of all.
    """

    def __init__(self, folder: Path, stage: Stage, first_epoch: int, network: Any) -> None:
        super().__init__()
        self._network = network
        self._folder = folder
        self._stage = stage
        self._first_epoch = first_epoch
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the file."""
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(self._folder))
        if self._first_epoch == 0:
            with self._writer.as_default(step=0):
                tf.summary.graph(_trace(self._network))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the epoch's figures."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        with self._writer.as_default():
            for name, value in {**logs, "learning_rate": rate}.items():
                _write_scalar(f"{self._stage.name}/{name}", float(value), self._first_epoch + epoch + 1)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file."""
        self._writer.close()


def _trace(network: Any) -> Any:
    """Return the TensorFlow graph of a network's answer, its operations named by layer."""
    import tensorflow as tf

    images = tf.TensorSpec([None, *network.input.shape[1:]], tf.float32, name="images")
    answer = tf.function(lambda pixels: network(pixels, training=False), autograph=False)
    return answer.get_concrete_function(images).graph


def _write_scalar(tag: str, value: float, step: int) -> None:
    """Write one value as TensorBoard's own scalar plugin would: `tf.summary.scalar` needs TensorBoard installed."""
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)  # DATA_CLASS_SCALAR
    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=metadata)


def write_curves(path: Path, curves: Sequence[dict[str, Any]]) -> None:
    """Write curves.csv anew."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CURVES)
        writer.writeheader()
        writer.writerows(curves)
