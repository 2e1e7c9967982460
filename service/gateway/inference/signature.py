"""Describes a signature of a model as the gateway's versioned call uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract

PREDICT: Final = "serving_default"
IMAGES: Final = "images"  # the input of every signature that takes pixels
PROBABILITIES: Final = "probabilities"

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Served:
    """The version that answers a request.

    Attributes:
        name: the model.
        version: its number.
        contract: what that version promises.
    """

    name: str
    version: int
    contract: ModelContract


class Signature(Protocol[T_co]):
    """A signature with the parameters of one request; makes an image's result of its outputs."""

    @property
    def name(self) -> str:
        """The signature's name in the model."""

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the outputs to fetch; each has a row for each image."""

    @property
    def is_batched(self) -> bool:
        """True if single images of several requests may share a call."""

    def check(self, served: Served) -> None:
        """Check the request's parameters before an image is decoded.

        Raises:
            InvalidValueError: if one is out of range for this version.
            GatewayError: if the version lacks the signature.
        """

    def extra_inputs(self, served: Served, num_images: int) -> Mapping[str, NDArray[Any]]:
        """Return the inputs beside the images, with the batch as first axis."""

    def decode(
        self, served: Served, images: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.floating]]
    ) -> Sequence[T_co]:
        """Return each image's result.

        Args:
            served: the version that answered.
            images: uint8, shape (batch, height, width, channels), as the model was given them.
            outputs: arrays by name, with a row for each image.

        Raises:
            BrokenContractError: if the outputs are not what the contract says.
        """
