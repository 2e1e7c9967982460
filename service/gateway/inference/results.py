"""The result of a prediction request, before it is JSON."""

from __future__ import annotations

from dataclasses import dataclass

from contract.model import ModelContract
from contract.predictions import Decision, Prediction
from service.gateway.context.errors import RefusedImageError


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


Entry = Classified | RefusedImageError


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets.

    Attributes:
        name: the model.
        version: the version whose pixels, probabilities and labels these are.
        contract: that version's contract.
        entries: for each image, its classes or why it was refused.
    """

    name: str
    version: int
    contract: ModelContract
    entries: list[Entry]
