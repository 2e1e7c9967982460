"""The signature `serving_default`: probabilities, as named classes with decisions and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.model import ModelContract
from contract.novelty import WARNING
from contract.predictions import Prediction, decide, decode_predictions
from service.gateway.context.errors import BrokenContractError, InvalidValueError
from service.gateway.inference.image_results import Classified
from service.gateway.inference.signature import PREDICT, PROBABILITIES, Served

DEFAULT_TOP = 3


@dataclass(frozen=True, slots=True)
class PredictSignature:
    """Classifies images; see `Signature`.

    Attributes:
        top: classes an image, best first; None for three, or all when there are fewer.
    """

    name: ClassVar = PREDICT
    outputs: ClassVar = (PROBABILITIES,)
    is_batched: ClassVar = True

    top: int | None = None

    def check(self, served: Served) -> None:
        """Check that the version has so many classes."""
        check_top(self.top, served.contract)

    def extra_inputs(self, served: Served, num_images: int) -> Mapping[str, NDArray[Any]]:
        """Return nothing: the images are the only input."""
        return {}

    def decode(
        self, served: Served, images: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.floating]]
    ) -> list[Classified]:
        """Name the classes of each image."""
        contract, rows = served.contract, outputs[PROBABILITIES]
        ranked = name_classes(rows, contract, check_top(self.top, contract))
        warnings = find_warnings(images, contract)
        return [
            Classified(classes, decide(row, contract), found)
            for row, classes, found in zip(rows, ranked, warnings, strict=True)
        ]


def name_classes(rows: NDArray[np.floating], contract: ModelContract, top: int) -> list[list[Prediction]]:
    """Return the `top` most probable classes of each row that the model server answered, best first.

    Raises:
        BrokenContractError: if the rows break the contract.
    """
    try:
        return decode_predictions(rows, contract.labels, top)
    except ContractError as err:
        raise BrokenContractError(f"the model server's answer is not what the contract says: {err}") from err


def find_warnings(batch: NDArray[np.uint8], contract: ModelContract) -> list[tuple[str, ...]]:
    """Return the codes of what speaks against trusting the classes of each prepared image."""
    if contract.novelty is None:
        return [()] * len(batch)
    return [(WARNING,) if unlike else () for unlike in contract.novelty.find_unlike(batch).tolist()]


def check_top(top: int | None, contract: ModelContract) -> int:
    """Return how many classes an image gets.

    Raises:
        InvalidValueError: if more are wanted than there are, or none.
    """
    num_classes = len(contract.labels)
    if top is None:
        return min(DEFAULT_TOP, num_classes)
    if not 1 <= top <= num_classes:
        raise InvalidValueError(f"top: expected 1 to {num_classes}, the model's number of classes. Received: {top}")
    return top
