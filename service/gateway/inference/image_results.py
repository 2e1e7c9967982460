"""Results of requests about images, before they are JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from contract.predictions import Decision, Prediction
from contract.tensors import FLOAT32
from service.gateway.context.errors import RefusedImageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Classified:
    """One image classified.

    Attributes:
        top: the most probable classes, best first.
        decision: the contract's operating points, applied.
        warnings: codes of what speaks against trusting `top`.
    """

    top: list[Prediction]
    decision: list[Decision]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One image explained.

    Attributes:
        picture: what the model saw, uint8, shape (height, width, channels).
        classified: its classes.
        explained: the class that the map is for.
        saliency: float32, shape (rows, columns), in [0, 1].
    """

    picture: NDArray[np.uint8]
    classified: Classified
    explained: Prediction
    saliency: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Embedded:
    """One image as a vector.

    Attributes:
        vector: float32, shape (dimension,).
        warnings: codes of what speaks against trusting the vector.
    """

    vector: NDArray[np.float32]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """The result of one request.

    Attributes:
        name: the model.
        version: the version that answered.
        contract: that version's contract.
        entries: for each image its result, or why it was refused.
        precision: that it was computed at, such as "float32".
        is_canary: whether the version answered as the canary of its model.
    """

    name: str
    version: int
    contract: ModelContract
    entries: list[T | RefusedImageError]
    precision: str = FLOAT32
    is_canary: bool = False


def count_images(answer: Answer[Any]) -> tuple[int, int]:
    """Return the number of images that were answered, and of those with a warning."""
    found = [entry for entry in answer.entries if not isinstance(entry, RefusedImageError)]
    return len(found), sum(bool(getattr(entry, "classified", entry).warnings) for entry in found)
