"""The signature `explain`: which part of an image speaks for a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from contract.predictions import decide
from service.gateway.context.errors import BrokenContractError, InvalidValueError, NoExplanationError
from service.gateway.inference.image_results import Classified, Explanation
from service.gateway.inference.prediction import check_top, find_warnings, name_classes
from service.gateway.inference.signature import PROBABILITIES, Served

_SALIENCY = "saliency"
_PREDICTED = -1  # as class index: the most probable class of each image


@dataclass(frozen=True, slots=True)
class ExplainSignature:
    """Explains images; see `Signature`.

    Attributes:
        wanted: the class to explain, as `find_class` reads it; None for each image's most probable one.
        top: classes an image, best first; None for the default.
    """

    name: ClassVar = "explain"
    outputs: ClassVar = (PROBABILITIES, _SALIENCY)
    is_batched: ClassVar = False  # a map takes several times as long as a prediction

    wanted: str | None = None
    top: int | None = None

    def check(self, served: Served) -> None:
        """Check that the version has explanations, the class and so many classes."""
        if served.contract.saliency is None:
            raise NoExplanationError(
                f"{served.name} version {served.version} has no explanations: it was imported, or its network has no "
                "feature map"
            )
        check_top(self.top, served.contract)
        self._class_index(served.contract)

    def extra_inputs(self, served: Served, num_images: int) -> Mapping[str, NDArray[Any]]:
        """Return the class to explain, once for each image."""
        return {"class_index": np.full(num_images, self._class_index(served.contract), np.int32)}

    def decode(
        self, served: Served, images: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.floating]]
    ) -> list[Explanation]:
        """Return each image's classes and map."""
        contract, rows, maps = served.contract, outputs[PROBABILITIES], outputs[_SALIENCY]
        ranked = name_classes(rows, contract, len(contract.labels))
        _check_maps(maps, len(images))
        warnings = find_warnings(images, contract)
        class_index, top = self._class_index(contract), check_top(self.top, contract)
        explanations = []
        for picture, row, classes, found, saliency in zip(images, rows, ranked, warnings, maps, strict=True):
            explained = next((item for item in classes if item.index == class_index), classes[0])
            classified = Classified(classes[:top], decide(row, contract), found)
            explanations.append(Explanation(picture, classified, explained, saliency))
        return explanations

    def _class_index(self, contract: ModelContract) -> int:
        return _PREDICTED if self.wanted is None else find_class(self.wanted, contract)


def find_class(wanted: str, contract: ModelContract) -> int:
    """Return the index of the class that a person means: by id, else by name, else by index.

    Raises:
        InvalidValueError: if there is no such class, or several of that name.
    """
    labels = contract.labels
    by_id = [i for i, label in enumerate(labels) if label.id == wanted]
    found = by_id or [i for i, label in enumerate(labels) if label.name == wanted]
    if len(found) > 1:
        ids = ", ".join(labels[i].id for i in found)
        raise InvalidValueError(f"class: several are named {wanted[:64]!r}; expected one of their ids: {ids}")
    if found:
        return found[0]
    if wanted.isascii() and wanted.isdecimal() and len(wanted) < 10 and int(wanted) < len(labels):
        return int(wanted)
    raise InvalidValueError(
        f"class: expected a class's id or name, or an index from 0 to {len(labels) - 1}. Received: {wanted[:64]!r}"
    )


def _check_maps(maps: NDArray[np.floating], num_images: int) -> None:
    if maps.ndim != 3 or 0 in maps.shape:
        raise BrokenContractError(
            f"expected saliency of {num_images} images from the model server. Received: shape {maps.shape}"
        )
    if not np.isfinite(maps).all() or maps.min() < 0 or maps.max() > 1:
        raise BrokenContractError(
            f"expected saliency in [0, 1] from the model server. Received: {maps.min():.6g} to {maps.max():.6g}"
        )
