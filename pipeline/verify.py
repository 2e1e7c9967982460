"""Replays test images through the SavedModel on disk and compares with the Keras model in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from engine.loading import load_engine
from pipeline.errors import VerificationError
from pipeline.pixels import Pixels

MAX_DEVIATION = 1e-4  # of a probability, at float32
_BATCH = 7  # neither 1 nor a power of two


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far an engine strays from the Keras model.

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


def verify(
    directory: Path, contract: ModelContract, pixels: Pixels, paths: Sequence[str], expected: NDArray[np.float32]
) -> list[Deviation]:
    """Run every signature of an exported model and compare probabilities.

    Args:
        directory: the SavedModel.
        contract: what it must describe itself as.
        pixels: decodes the images.
        paths: the images to replay.
        expected: the Keras model's calibrated probabilities, float32, shape (images, classes).

    Raises:
        VerificationError: if a probability strays by more than MAX_DEVIATION or is not finite, or a signature
            answers with a wrong shape, range or contract.
    """
    engine = load_engine(directory)
    try:
        parts = [
            engine.run("serving_default", {"images": batch})["probabilities"] for batch in pixels.batches(paths, _BATCH)
        ]
        deviation = _compare(engine.name, engine.precision, np.concatenate(parts), expected)
        sample = pixels.batch(paths[:2])
        _check_explain(engine.run("explain", {"images": sample, "class_index": np.full(len(sample), -1, np.int32)}))
        _check_describe(engine.run("describe", {"row": np.zeros(2, np.int32)}), contract)
    finally:
        engine.close()
    return [deviation]


def verification_document(deviations: Sequence[Deviation]) -> dict[str, Any]:
    """Return what verification.json holds."""
    return {"format": 1, "max_deviation": MAX_DEVIATION, "deviations": [asdict(d) for d in deviations]}


def _compare(name: str, precision: str, received: NDArray[np.float32], expected: NDArray[np.float32]) -> Deviation:
    if received.shape != expected.shape or not np.isfinite(received).all():
        raise VerificationError(
            f"{name}: expected finite probabilities of shape {expected.shape}. Received: shape {received.shape}, "
            f"{int((~np.isfinite(received)).sum())} of them not finite"
        )
    largest = float(np.abs(received - expected).max())
    if largest > MAX_DEVIATION:
        raise VerificationError(
            f"{name} at {precision}: expected probabilities within {MAX_DEVIATION} of the Keras model's. "
            f"Received: {largest:.2e} away"
        )
    changed = int((received.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return Deviation(name, precision, len(expected), largest, changed)


def _check_explain(outputs: dict[str, NDArray[Any]]) -> None:
    saliency = outputs["saliency"]
    if saliency.ndim != 3 or not np.isfinite(saliency).all() or saliency.min() < 0 or saliency.max() > 1:
        raise VerificationError(
            f"explain: expected maps in [0, 1] of shape (batch, rows, columns). Received: shape {saliency.shape}"
        )


def _check_describe(outputs: dict[str, NDArray[Any]], contract: ModelContract) -> None:
    described = ModelContract.from_json(outputs["contract"][0])
    if outputs["contract"].shape != (2,) or described.sha256 != contract.sha256:
        raise VerificationError(f"describe: expected the contract {contract.sha256}. Received: {described.sha256}")
