"""Runs a frozen network on the preferred runtime, after its features agreed with Keras's."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.precision_names import AUTO, FLOAT32
from engine.runtime import preferred_runtime, runtime_version
from engine.saved_model import DEFAULT_SIGNATURE
from pipeline.errors import RecipeError
from pipeline.features.extractor import Extractor
from pipeline.networks.preprocessing import preprocess
from pipeline.recipe.augment_settings import Cache
from pipeline.recipe.preprocessing_settings import Preprocessing
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

_COMPARED = 2  # inputs, computed on Keras too
# Largest difference from Keras, as a share of the largest feature. Features are kept as float16 and train a head whose
# test images later go through the float32 network: what rounding costs is in the figures that the gate sees.
_CLOSE = {FLOAT32: 1e-4}
CLOSE_ENOUGH = 0.02  # at faster precisions

Compute = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def feature_precisions(settings: Cache) -> tuple[str, ...] | None:
    """Return the precisions that a recipe pins for features, to be tried in this order; None where it pins none.

    Raises:
        RecipeError: if this machine lacks the precision.
    """
    pinned, offered = settings.features_precision, preferred_runtime().precisions()
    if pinned == AUTO:
        return None
    if pinned not in offered:
        raise RecipeError(
            f"cache.features_precision: expected one of {', '.join((AUTO, *offered))} on this machine. "
            f"Received: {pinned}"
        )
    return (FLOAT32,) if pinned == FLOAT32 else (pinned, FLOAT32)


class ExportedNetwork:
    """A network as a SavedModel, written once, at its first use, and deleted with this; loaded once at each precision.

    Args:
        network: a Keras model from preprocessed images, or another frozen network's features, to features.
        preprocessing: of the network's input; "none" for features.
    """

    def __init__(self, network: Any, preprocessing: Preprocessing) -> None:
        self._network = network
        self._preprocessing = preprocessing
        self._runtime = preferred_runtime()
        self._loaded: dict[str, tuple[Extractor, float]] = {}

    def load(self, precision: str, some: NDArray[np.float32]) -> tuple[Extractor, float]:
        """Return the network on the preferred runtime, and its largest difference from Keras on some inputs.

        Inputs of a later call are not compared.

        Raises:
            EngineError: if it cannot be loaded or run.
        """
        if precision not in self._loaded:
            extractor = Extractor(self._folder, runtime=self._runtime.name, precision=precision)
            difference = _largest_difference(extractor(some), np.asarray(self.run_keras(some)))
            self._loaded[precision] = extractor, difference
        return self._loaded[precision]

    def run_keras(self, values: Any) -> Any:
        """Return the features as Keras computes them."""
        return self._network(preprocess(tf.convert_to_tensor(values), self._preprocessing), training=False)

    @cached_property
    def _folder(self) -> Path:
        folder = tempfile.mkdtemp(prefix="fovea-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._write(folder)
        return Path(folder)

    def _write(self, directory: str) -> None:
        spec = tf.TensorSpec([None, *self._network.input.shape[1:]], tf.float32, name="inputs")
        function = tf.function(lambda inputs: {"features": self.run_keras(inputs)}, [spec], autograph=False)
        module = tf.Module()
        module.weights = [variable.value for variable in self._network.variables]
        # As in pipeline/publishing/export.py: some gradient functions cannot be written.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, directory, signatures={DEFAULT_SIGNATURE: function}, options=options)


class FrozenNetwork:
    """A network that does not train, at the first precision whose features agree with Keras's.

    Args:
        exported: the network; others may share it.
        precisions: to try in this order; None: all of this machine, the fastest first.
        close_enough: largest difference from Keras at faster precisions, as a share of the largest feature.

    Attributes:
        precisions: as they are tried.
        runtime: what computes, in words that change when the features might.
        runtime_name: of the preferred runtime alone.
    """

    def __init__(
        self,
        exported: ExportedNetwork,
        *,
        precisions: Sequence[str] | None = None,
        close_enough: float = CLOSE_ENOUGH,
    ) -> None:
        self._exported = exported
        # The faster ones first. Which of them is taken depends on the network, and so is always the same.
        self._runtime = preferred_runtime()
        self.precisions = (*self._runtime.precisions()[1:], FLOAT32) if precisions is None else tuple(precisions)
        self._close_enough = close_enough
        self.runtime_name = self._runtime.name
        self.runtime = f"{self._runtime.name} {runtime_version(self._runtime.name)} {self.precisions[0]}"
        if close_enough != CLOSE_ENOUGH:
            self.runtime += f" within {close_enough:g}"
        self._compute: Compute | None = None

    def at_float32(self) -> FrozenNetwork:
        """Return the same network in float32 alone."""
        return FrozenNetwork(self._exported, precisions=(FLOAT32,))

    def compute(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return features, float32, shape (batch, *features).

        Args:
            inputs: shape (batch, *input): pixels 0-255 of any type, or another frozen network's features.
        """
        values = np.array(inputs, np.float32)  # a copy: Keras's preprocessing may work in place
        if self._compute is None:
            self._compute = self._choose(values[:_COMPARED])
        return self._compute(values)

    def _choose(self, some: NDArray[np.float32]) -> Compute:
        """Return the fastest way to compute that agrees with Keras on some inputs."""
        title = self._runtime.title
        for precision in self.precisions:
            try:
                compute, difference = self._exported.load(precision, some)
            except EngineError as err:
                warn(log, Weight.SPEED, "%s at %s cannot compute the features: %s", title, precision, err)
                continue
            if difference <= _CLOSE.get(precision, self._close_enough):
                return compute
            text = "%s at %s is not used for features: %.1e from Keras's"
            warn(log, Weight.SPEED, text, title, precision, difference)
        warn(log, Weight.SPEED, "Features are computed by Keras, which is slower")
        traced = tf.function(self._exported.run_keras, autograph=False)
        return lambda values: np.asarray(traced(values))


def _largest_difference(received: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference as a share of the largest expected value; infinite if anything is not finite."""
    scale = max(float(np.abs(expected).max()), 1e-6)
    difference = float(np.abs(received - expected).max()) / scale
    return difference if np.isfinite(difference) else float("inf")
