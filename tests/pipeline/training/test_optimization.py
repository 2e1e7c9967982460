"""pipeline/training/optimization.py: Keras's own optimizers and losses, by a recipe's words."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import load_recipe
from pipeline.recipe.training_settings import Train
from pipeline.training.optimization import make_loss, make_optimizer
from tests.pipeline.training.test_train import LABELS, Bench

TARGETS = np.array([0, 2, 1, 2], np.int32)
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]], np.float32)
SCRATCH = ["model.weights=none", "train.freeze_backbone=false", "train.fine_tune.epochs=0"]


def settings(*overrides: str) -> Train:
    return load_recipe("default", [f"train.{override}" for override in overrides]).train


def moved(optimizer: Any) -> np.ndarray:
    """Where three steps along the gradient of a square take two numbers."""
    variable = keras.Variable(np.array([1.0, -2.0], np.float32))
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply([2 * keras.ops.convert_to_numpy(variable)], [variable])
    return np.asarray(variable)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("adam", keras.optimizers.Adam, id="adam"),
        pytest.param("{name: adam, beta_1: 0.8, amsgrad: true}", lambda r: keras.optimizers.Adam(r, 0.8, amsgrad=True)),
        pytest.param("adamw", keras.optimizers.AdamW, id="adamw"),
        pytest.param("{name: adamw, weight_decay: 0.1}", lambda r: keras.optimizers.AdamW(r, weight_decay=0.1)),
        pytest.param("sgd", keras.optimizers.SGD, id="sgd"),
        pytest.param("{name: sgd, momentum: 0.9, nesterov: true}", lambda r: keras.optimizers.SGD(r, 0.9, True)),
        pytest.param("{SGD: {momentum: 0.5}}", lambda r: keras.optimizers.SGD(r, 0.5), id="as-a-layer"),
        pytest.param("{name: sgd, clipnorm: 0.1}", lambda r: keras.optimizers.SGD(r, clipnorm=0.1), id="clipped"),
        pytest.param("rmsprop", keras.optimizers.RMSprop, id="rmsprop"),
        pytest.param("{name: rmsprop, rho: 0.5, momentum: 0.3}", lambda r: keras.optimizers.RMSprop(r, 0.5, 0.3)),
    ],
)
def test_optimizers_step_as_keras_own(words: str, expected: Any) -> None:
    """Three steps of the recipe's optimizer end where Keras's does."""
    made = make_optimizer(settings(f"optimizer={words}").optimizer, 0.1)

    assert type(expected(0.1)) is type(made)
    assert np.array_equal(moved(expected(0.1)), moved(made))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    "name",
    [
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        "binary_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_hinge",
        "mean_squared_error",
        "kl_divergence",
    ],
)
def test_losses_are_keras_own(name: str, smoothing: float) -> None:
    """A loss of class indices is Keras's of one-hot targets, smoothed as Keras smooths them."""
    spread = np.eye(3, dtype=np.float32)[TARGETS] * (1 - smoothing) + smoothing / 3
    expected = keras.losses.get(name.removeprefix("sparse_"))(spread, PROBABILITIES)

    made = keras.losses.get(make_loss(settings(f"loss={name}", f"label_smoothing={smoothing}"), 3))

    assert np.allclose(expected, made(TARGETS, PROBABILITIES), rtol=1e-5)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer=adm", "train.optimizer: expected adam, adamw, sgd, rmsprop.* Received: 'adm'"),
        ("optimizer={name: sgd, momentom: 0.9}", "unknown key train.optimizer.momentom: did you mean momentum?"),
        ("optimizer={name: adam, momentum: 0.9}", "unknown key train.optimizer.momentum"),
        ("optimizer={name: sgd, momentum: 1}", "train.optimizer.momentum: .*less than 1. Received: 1"),
        ("optimizer=3", "train.optimizer: expected an optimizer's name or settings. Received: 3"),
        ("optimizer={name: 3}", "train.optimizer: expected adam, .* Received: 3"),
        ("loss=focal", "train.loss: .*Received: 'focal'"),
        ("weights_of=first", "train.weights_of: .*'best' or 'last'. Received: 'first'"),
    ],
)
def test_mistakes_are_named(override: str, words: str) -> None:
    """A wrong optimizer, setting or loss is refused with what was expected."""
    with pytest.raises(RecipeError, match=words):
        settings(override)


def test_defaults_are_not_written() -> None:
    """A recipe that does not name the new keys is written as before, for versions of Fovea that do not know them."""
    written = settings().model_dump(mode="json")
    changed = settings("optimizer={name: sgd, momentum: 0.9}", "weights_of=last").model_dump(mode="json")

    assert not {"optimizer", "loss", "weights_of"} & set(written)
    assert ("last", 0.9) == (changed["weights_of"], changed["optimizer"]["momentum"])
    assert Train.model_validate(changed) == settings("optimizer={name: sgd, momentum: 0.9}", "weights_of=last")


@pytest.mark.parametrize("which", ["best", "last"])
def test_weights_are_those_of_the_named_epoch(tmp_path: Path, which: str) -> None:
    """The validation loss of what training leaves is the record's: the best epoch's or the last one's."""
    words = ["train.epochs=3", "train.optimizer={name: sgd, momentum: 0.9}", "train.learning_rate=0.02"]
    bench = Bench(tmp_path, [*SCRATCH, *words, f"train.weights_of={which}"])

    history = bench.train()

    losses = [row["val_loss"] for row in history.curves]
    assert history.best == history.curves[-1 if which == "last" else int(np.argmin(losses))]
    rows = bench.manifest.of("val")
    pixels = bench.pixels.batch([row.path for row in rows]).astype(np.float32)
    answers = np.asarray(bench.classifier.model(bench.classifier.backbone.preprocess(pixels), training=False))
    of_labels = answers[np.arange(len(rows)), [LABELS.index(row.label) for row in rows]]
    assert np.isclose(history.best["val_loss"], -np.log(np.maximum(of_labels, 1e-7)).mean(), rtol=1e-2, atol=1e-4)
