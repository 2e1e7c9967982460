"""The two sides of a comparison, each a process: Fovea's training and `model.fit` on arrays in memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training.job import Job


def train_by_fovea(jobs: Sequence[Job], turns: Connection) -> None:
    """Train as `python -m pipeline run` does, with its checkpoints and curves; send the test accuracy of each job."""
    import keras

    from pipeline.evaluation.evaluate import compute_logits, targets_of
    from pipeline.training.train import make_repeatable, train

    for job in jobs:
        keras.backend.clear_session()
        prepared = job.load()
        labels, manifest, pixels = prepared.labels, prepared.manifest, prepared.pixels
        make_repeatable(job.seed)
        classifier = prepared.build()
        with tempfile.TemporaryDirectory(prefix="lectures-") as name:
            folder = Path(name, "runs/lecture/run")
            folder.mkdir(parents=True)
            train(classifier, manifest, labels, pixels, prepared.recipe, folder, callbacks=[_take_turns(turns)])
        rows = manifest.of("test")
        answers = compute_logits(classifier, rows, pixels).argmax(axis=1)
        turns.send({"accuracy": float(np.mean(answers == targets_of(rows, labels)))})


def train_by_keras(jobs: Sequence[Job], turns: Connection) -> None:
    """Train the same networks by `model.fit` on the same images; send the test accuracy of each job."""
    import keras

    from pipeline.training.optimization import make_optimizer

    for job in jobs:
        keras.backend.clear_session()
        prepared = job.load()
        train, val, test = (prepared.arrays(split) for split in ("train", "val", "test"))
        keras.utils.set_random_seed(job.seed)
        model = prepared.build().model
        settings = prepared.recipe.train
        optimizer = make_optimizer(settings.optimizer, settings.learning_rate)
        model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(
            *train,
            batch_size=settings.batch_size,
            epochs=job.epochs,
            validation_data=val,
            callbacks=[_take_turns(turns)],
            verbose=0,
        )
        turns.send({"accuracy": float(model.evaluate(*test, batch_size=256, verbose=0)[1])})


def _take_turns(turns: Connection) -> Any:
    """Return a Keras callback that waits for its turn before each epoch, and sends what the epoch took after it."""
    import keras

    class TakeTurns(keras.callbacks.Callback):
        started = (0.0, 0.0)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            turns.send({"waits": epoch})
            turns.recv()
            self.started = time.perf_counter(), time.process_time()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds, cpu = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
            turns.send({"seconds": seconds, "cpu_s": cpu, "val_accuracy": float((logs or {})["val_accuracy"])})

    return TakeTurns()
