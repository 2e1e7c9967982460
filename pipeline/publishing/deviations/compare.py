"""Compares outputs of a model with the expected ones.

At float32 they may differ by a limit. Where they differ by more, what rounding alone does to this network is measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from engine.engine import Engine
from engine.errors import EngineError
from engine.kept import build_synthetic_images
from engine.precision_names import FLOAT32
from pipeline.errors import VerificationError
from pipeline.publishing.deviations.rounding import rounding_outputs
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

MAX_DEVIATION = 1e-4  # of a probability, at float32
MAX_EMBEDDING_DEVIATION = 1e-3  # of an embedding, by its own length, at float32
_ROUNDING = 4  # times what rounding moves an output, that may exceed these limits
_MOST = 20  # times the limits, whatever rounding does
_SHORTEST = 1e-3  # length of an embedding below which its deviation is measured by this
_WORST = 8  # images by which rounding is measured

Reader = Callable[[NDArray[np.intp]], NDArray[np.uint8]]  # of images, by their positions among those compared


@dataclass(frozen=True, slots=True)
class Deviation:
    """The difference of an engine's probabilities from the expected ones.

    Attributes:
        engine: such as "tensorflow".
        precision: such as "float32".
        images: how many were compared.
        max_deviation: largest absolute difference of a probability.
        changed_predictions: images whose most probable class differs.
    """

    engine: str
    precision: str
    images: int
    max_deviation: float
    changed_predictions: int


@dataclass(frozen=True, slots=True)
class EmbeddingDeviation:
    """The largest deviations of an engine's embeddings from the reference runtime's.

    Attributes:
        engine: such as "openvino".
        precision: such as "float32".
        max_deviation: largest distance between two embeddings of an image, as a share of the expected one's length.
    """

    engine: str
    precision: str
    max_deviation: float


@dataclass(frozen=True)
class Compared:
    """Images whose outputs are compared, and the model that computes them.

    Attributes:
        directory: the SavedModel.
        read: gives some of the images.
    """

    directory: Path
    read: Reader

    def rounding(self, moved: NDArray[np.float32]) -> float:
        """Return how far rounding alone moves a probability of the images that moved most."""
        own, changed = self._outputs("serving_default", "probabilities", moved)
        return max((float(_movement(other, own).max()) for other in changed), default=0.0)

    def embedding_rounding(self, moved: NDArray[np.float32]) -> float:
        """Return the same of embeddings, by their length."""
        own, changed = self._outputs("embed", "embedding", moved)
        return max((float(_embedding_movement(other, own).max()) for other in changed), default=0.0)

    def _outputs(
        self, signature: str, output: str, moved: NDArray[np.float32]
    ) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        images = self.read(np.argsort(moved)[-_WORST:])
        try:
            return rounding_outputs(self.directory, signature, {"images": images}, output)
        except EngineError as err:
            raise VerificationError(f"the effect of rounding on {signature} cannot be measured: {err}") from err


def synthetic_images(directory: Path, contract: ModelContract) -> Compared:
    """Return the synthetic images of a model."""
    return Compared(directory, lambda rows: build_synthetic_images(contract.input)[rows])


def compare(
    engine: Engine, received: NDArray[np.float32], expected: NDArray[np.float32], images: Compared, *, what: str
) -> Deviation:
    """Return how far probabilities are from the expected ones.

    Args:
        engine: what computed them.
        received: shape (images, classes).
        expected: the same shape.
        images: that they are of.
        what: whose probabilities against whose, for the error.

    Raises:
        VerificationError: if it is further at float32 than MAX_DEVIATION and than rounding explains, or they are not
            finite or of another shape.
    """
    what = f"{engine.name} at {engine.precision}, {what}"
    if received.shape != expected.shape or not np.isfinite(received).all():
        raise VerificationError(
            f"{what}: expected finite probabilities of shape {expected.shape}. Received: shape {received.shape}, "
            f"{int((~np.isfinite(received)).sum())} of them not finite"
        )
    moved = _movement(received, expected)
    largest = float(moved.max())
    if engine.precision == FLOAT32 and not largest <= MAX_DEVIATION:
        _check_rounding(moved, images.rounding(moved), MAX_DEVIATION, f"{what}: expected probabilities")
    changed = int((received.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return Deviation(engine.name, engine.precision, len(expected), largest, changed)


def compare_embeddings(
    engine: Engine, received: NDArray[np.float32], expected: NDArray[np.float32], images: Compared, *, what: str
) -> EmbeddingDeviation:
    """Return how far embeddings are from the expected ones.

    Args:
        engine: the engine that computed them.
        received: shape (images, dimension).
        expected: the same shape.
        images: that they are of.
        what: whose embeddings against whose, for the error.

    Raises:
        VerificationError: if one is further at float32 than MAX_EMBEDDING_DEVIATION and than rounding explains, or
            they are of another shape.
    """
    what = f"embed: {engine.name} at {engine.precision}, {what}"
    if received.shape != expected.shape:
        raise VerificationError(f"{what}: expected shape {expected.shape}. Received: {received.shape}")
    moved = _embedding_movement(received, expected)
    largest = float(moved.max())
    if engine.precision == FLOAT32 and not largest <= MAX_EMBEDDING_DEVIATION:
        what = f"{what}: expected embeddings, by their length,"
        _check_rounding(moved, images.embedding_rounding(moved), MAX_EMBEDDING_DEVIATION, what)
    return EmbeddingDeviation(engine.name, engine.precision, largest)


def _movement(received: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest movement of a probability, shape (images,)."""
    return np.asarray(np.abs(received - expected).max(axis=1), np.float32)


def _embedding_movement(received: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance between two embeddings as a share of the expected one's length, shape (images,)."""
    lengths = np.maximum(np.linalg.norm(expected, axis=1), _SHORTEST)
    return np.asarray(np.linalg.norm(received - expected, axis=1) / lengths, np.float32)


def _check_rounding(moved: NDArray[np.float32], rounding: float, limit: float, what: str) -> None:
    """Refuse what strays further than a limit, unless float32's rounding moves the network's outputs as far.

    Args:
        moved: of each image, the largest above the limit.
        rounding: the movement by the last bit of each weight.
        limit: that is exceeded.
        what: is expected at most so far apart.
    """
    largest = float(moved.max())
    if not largest <= min(_ROUNDING * rounding, _MOST * limit):
        raise VerificationError(
            f"{what} at most {limit:g} apart, or {_ROUNDING} times the {rounding:.1e} by which the last bit of each "
            f"weight moves them, up to {_MOST * limit:g}. Received: {largest:.2e}"
        )
    warn(
        log,
        Weight.EVALUATION,
        "%s at most %g apart. Received: %.1e, which rounding explains: the last bit of each weight moves them by %.1e. "
        "The network is ill-conditioned: it may answer otherwise at other precisions and on other machines.",
        what,
        limit,
        largest,
        rounding,
    )
