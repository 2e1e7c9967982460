"""Training: one or two stages, the weights of the best epoch or the last, and a record of every epoch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest
from pipeline.features.feature_store import FOLDER
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.networks.network import Classifier
from pipeline.progress import note, progress_bar
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.training_settings import FIND, Train
from pipeline.run_warnings import Weight, warn
from pipeline.training.callbacks import EpochEnd, Logbook, Progress, TensorBoard
from pipeline.training.checkpoint import BEST, Checkpoints, TrainingState, check_room, restore_optimizer
from pipeline.training.devices import scope_of
from pipeline.training.live_start import shorten
from pipeline.training.optimization import (
    compile_arguments,
    create_variables,
    for_outputs,
    make_optimizer,
    of_first_output,
)
from pipeline.training.precision import FLOAT32, TIMED_STEPS, StepTimes, choose_precision, computing_at
from pipeline.training.rate_search import LOWEST, STEPS, RateSearch, describe_no_rate, fit_and_restore, search_rate
from pipeline.training.schedule import LearningRates
from pipeline.training.stage_data import Fitting, StageData
from pipeline.training.unfreezing import Stage, default_rate, plan_stages, rate_of, set_trainable

TENSORBOARD = "tensorboard"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class History:
    """The history of a training.

    Attributes:
        curves: one record an epoch, keys as in CURVES.
        best: the record of the epoch whose weights were kept.
        start: validation loss and accuracy of the weights that a warm start began with; empty of other trainings.
        rates: range tests of the learning rate by stage; of stages whose rate the recipe gives there is none.
        precisions: of training by stage, where the recipe asks for another than float32.
    """

    curves: list[dict[str, Any]]
    best: dict[str, Any]
    start: dict[str, float] = field(default_factory=dict)
    rates: dict[str, dict[str, Any]] = field(default_factory=dict)
    precisions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        rates = {"learning_rates": self.rates} if self.rates else {}
        return {"curves": self.curves, "best": self.best, **rates, **self.precision()}

    def precision(self) -> dict[str, Any]:
        """Return what metrics.json and the contract hold of the precision of training; empty where it is float32's."""
        return {"precisions": self.precisions} if self.precisions else {}

    def warnings(self) -> list[str]:
        """Return the stages that asked for a learning rate and kept the default, in words."""
        return [describe_no_rate(stage, found) for stage, found in self.rates.items() if found["suggested"] is None]


def make_repeatable(seed: int) -> None:
    """Make this process compute the same from the same: initial weights, dropout, and every operation of TensorFlow.

    Operations stay deterministic until the process ends; to be called before a network is built.
    """
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def train(
    classifier: Classifier,
    manifest: Manifest,
    labels: Sequence[str],
    pixels: Pixels,
    recipe: Recipe,
    folder: Path,
    frozen: FrozenBackbone | None = None,
    *,
    warm_start: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    strategy: Any = None,
) -> History:
    """Train a classifier in place; it ends with the weights of the epoch that `train.weights_of` names.

    A folder with checkpoints is gone on with, from the epoch after the last that was finished.

    Args:
        classifier: the network, built by the recipe after `make_repeatable`.
        manifest: its train rows are augmented, its val rows are not.
        labels: class names; position is the class index.
        pixels: decodes the images.
        recipe: epochs, rates, augmentation, seed.
        folder: where checkpoints and curves.csv go.
        frozen: the backbone, where none of its layers trains in any stage.
        warm_start: whether the network is trained already: it is measured first, and trains for less.
        callbacks: called after those of training, in every stage.
        strategy: in whose scope the classifier was built, as `make_strategy` gives it; None: one device.

    Raises:
        TrainingError: if the loss is not finite; the best checkpoint so far stays in `folder`.
        DiskError: if the disk has no room for checkpoints, before the first epoch or later.
        LostImageError: if an image cannot be read any more.
    """
    stage_data = _stage_data(classifier, manifest, labels, pixels, recipe, folder, frozen)
    network = classifier.trained_model
    checkpoints = Checkpoints(folder)
    state, optimizer = checkpoints.load(network) or (TrainingState(), [])
    weights = _class_weights(manifest, labels, recipe.train)
    logbook = Logbook(folder, network, state, checkpoints)
    trainer = _Trainer(logbook, recipe.train, len(labels), weights, warm_start, tuple(callbacks), strategy)
    stages = plan_stages(classifier, recipe.train)
    stages = shorten(stages) if warm_start else stages
    check_room(folder, network, max(_trained_bytes(classifier, stage) for stage in stages))
    while state.stage < len(stages):
        stage = stages[state.stage]
        set_trainable(classifier, stage)
        if state.epoch < stage.epochs and not state.stopped:
            fitting = stage_data.of_stage(stage.trainable)
            with computing_at(classifier, trainer.precision_of(classifier, fitting, stage)):
                trainer.fit(fitting, trainer.with_rate(fitting, stage), optimizer)
        network.load_weights(folder / BEST)
        optimizer = []
        state.next_stage()
        checkpoints.save(state, network)
    return History(state.curves, state.best, state.start, state.rates, state.precisions)


def search_first_rate(
    classifier: Classifier,
    manifest: Manifest,
    labels: Sequence[str],
    pixels: Pixels,
    recipe: Recipe,
    folder: Path,
    frozen: FrozenBackbone | None = None,
    *,
    steps: int,
) -> RateSearch:
    """Test learning rates for the first stage of a training, in at most `steps`; every variable is restored.

    The other arguments are those of `train`.

    Raises:
        LostImageError: if an image cannot be read any more.
    """
    stage_data = _stage_data(classifier, manifest, labels, pixels, recipe, folder, frozen)
    stage = plan_stages(classifier, recipe.train)[0]
    set_trainable(classifier, stage)
    logbook = Logbook(folder, classifier.trained_model, TrainingState(), Checkpoints(folder))
    trainer = _Trainer(logbook, recipe.train, len(labels), _class_weights(manifest, labels, recipe.train))
    return trainer.search(stage_data.of_stage(stage.trainable), steps)


def _stage_data(
    classifier: Classifier,
    manifest: Manifest,
    labels: Sequence[str],
    pixels: Pixels,
    recipe: Recipe,
    folder: Path,
    frozen: FrozenBackbone | None,
) -> StageData:
    features = folder.parent.parent / FOLDER  # beside the runs, which share it
    return StageData(
        classifier, manifest, labels=labels, pixels=pixels, recipe=recipe, features=features, frozen=frozen
    )


def _trained_bytes(classifier: Classifier, stage: Stage) -> int:
    set_trainable(classifier, stage)
    return sum(variable.value.numpy().nbytes for variable in classifier.trained_model.trainable_variables)


@dataclass(frozen=True)
class _Trainer:
    """Fits one stage after the other.

    Attributes:
        logbook: where every epoch is written down.
        settings: of the recipe.
        num_classes: how many there are.
        class_weights: by class index; None for equal ones.
        warm_start: whether the weights before the first epoch are measured.
        further: callbacks that are called last.
        strategy: of several devices; None: one.
    """

    logbook: Logbook
    settings: Train
    num_classes: int
    class_weights: dict[int, float] | None
    warm_start: bool = False
    further: tuple[keras.callbacks.Callback, ...] = ()
    strategy: Any = None

    def fit(self, fitting: Fitting, stage: Stage, optimizer_state: Sequence[Any]) -> None:
        """Train one stage from where the logbook's state stands.

        Args:
            fitting: the model and its batches.
            stage: its layers are set to train.
            optimizer_state: of a checkpoint within the stage; empty at its start.
        """
        state, settings = self.logbook.state, self.settings
        steps = len(fitting.training)
        model, training = self._prepare(fitting, rate_of(stage))
        with scope_of(self.strategy):
            restore_optimizer(model.optimizer, model.trainable_variables, optimizer_state)
        if self.warm_start and not state.curves and not state.start:
            state.start = self._measure(model, fitting)
        what = f"Training, {stage.name}"
        with progress_bar(total=(stage.epochs - state.epoch) * steps, what=what, unit="step") as bar:
            callbacks = [Progress(bar), LearningRates(stage, settings, steps, state.plateau)]
            if settings.tensorboard:
                before = len(state.curves) - state.epoch
                callbacks.append(TensorBoard(self.logbook.folder / TENSORBOARD, stage, before, self.logbook.network))
            outputs = len(model.outputs)
            with _own_failures(fitting):
                model.fit(
                    training,
                    validation_data=for_outputs(fitting.validation.dataset(), outputs),
                    initial_epoch=state.epoch,
                    epochs=stage.epochs,
                    steps_per_epoch=steps,
                    callbacks=[*callbacks, EpochEnd(self.logbook, stage, settings), *self.further],
                    class_weight=self.class_weights if outputs == 1 else None,
                    shuffle=False,
                    verbose=0,
                )

    def with_rate(self, fitting: Fitting, stage: Stage) -> Stage:
        """Return a stage with its learning rate, found by a range test where the recipe asks for that.

        Where no rate lowers the loss, the stage keeps the default, after a warning.
        """
        if stage.learning_rate != FIND:
            return stage
        found = self.logbook.state.rates.get(stage.name)
        if found is None:
            search = self.search(fitting, STEPS)
            found = {**search.document(), "used": search.suggested or default_rate(stage)}
            self.logbook.state.rates[stage.name] = found
            if search.suggested is not None:
                note(f"Learning rate of stage {stage.name}: {search.suggested:g}, found in {len(search.rates)} steps")
        if found["suggested"] is None:
            warn(log, Weight.EVALUATION, "%s.", describe_no_rate(stage.name, found))
        return replace(stage, learning_rate=found["used"])

    def precision_of(self, classifier: Classifier, fitting: Fitting, stage: Stage) -> str:
        """Return the precision at which a stage trains, chosen by measured steps where the recipe asks for that."""
        if self.settings.precision == FLOAT32:
            return FLOAT32
        found = self.logbook.state.precisions.get(stage.name)
        if found is None:

            def measure(precision: str) -> Sequence[float]:
                with computing_at(classifier, precision):
                    return self._time_steps(fitting)

            chosen = choose_precision(self.settings.precision, trains_backbone=bool(stage.trainable), measure=measure)
            found = self.logbook.state.precisions[stage.name] = chosen.document()
            note(f"Precision of stage {stage.name}: {chosen.used}; {chosen.reason}")
        return str(found["used"])

    def _time_steps(self, fitting: Fitting) -> Sequence[float]:
        model, training = self._prepare(fitting, LOWEST)
        times = StepTimes()
        weights = self.class_weights if len(model.outputs) == 1 else None
        with _own_failures(fitting):
            fit_and_restore(model, training, weights, steps=1 + TIMED_STEPS, callback=times)
        return times.seconds

    def search(self, fitting: Fitting, steps: int) -> RateSearch:
        """Test learning rates for a stage whose layers are set to train; every variable is restored."""
        model, training = self._prepare(fitting, LOWEST)
        with _own_failures(fitting):
            weights = self.class_weights if len(model.outputs) == 1 else None
            return search_rate(model, training, weights, steps=steps)

    def _prepare(self, fitting: Fitting, learning_rate: float) -> tuple[Any, Any]:
        """Return the same layers in a compiled model of its own, and its training batches from the next epoch on.

        The classifier is never compiled: what it saves holds neither an optimizer nor a loss that only this room knows.
        """
        with scope_of(self.strategy):
            model = keras.Model(fitting.model.input, fitting.model.outputs)
            losses = compile_arguments(self.settings, self.num_classes, outputs=len(model.outputs))
            optimizer = make_optimizer(self.settings.optimizer, learning_rate)
            model.compile(optimizer=optimizer, **losses, jit_compile=False)
        epochs = len(self.logbook.state.curves)
        training = for_outputs(fitting.training.dataset(epochs), len(model.outputs), self.class_weights)
        if self.strategy is None:
            create_variables(model, training.element_spec[1])
        return model, training

    def _measure(self, model: Any, fitting: Fitting) -> dict[str, float]:
        """Return loss and accuracy on validation images."""
        outputs = len(model.outputs)
        with _own_failures(fitting):
            logs = model.evaluate(for_outputs(fitting.validation.dataset(), outputs), return_dict=True, verbose=0)
        figures = of_first_output(logs, model)
        return {f"val_{name}": float(figures[name]) for name in ("loss", "accuracy")}


@contextmanager
def _own_failures(fitting: Fitting) -> Iterator[None]:
    """Raise what ended the batches in place of the error that TensorFlow makes of it."""
    try:
        yield
    except Exception as err:
        failure = fitting.training.failure or fitting.validation.failure
        if failure is None:
            raise
        raise failure from err


def _class_weights(manifest: Manifest, labels: Sequence[str], settings: Train) -> dict[int, float] | None:
    """Return weights that give every class the same sum over the training images, 1 for each image on average.

    None where the recipe does not balance classes.
    """
    if settings.class_weight != "balanced":
        return None
    counts = Counter(row.label for row in manifest.of("train"))
    total, present = counts.total(), len(counts)
    return {i: total / (present * counts[label]) for i, label in enumerate(labels) if counts[label]}
