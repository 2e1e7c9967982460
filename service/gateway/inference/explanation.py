"""Which part of a picture spoke for a class: the signature `explain` of one version, for each image of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from contract.predictions import Prediction
from service.gateway.backend.backend import Backend
from service.gateway.context.errors import BrokenContractError, InvalidValueError, NoExplanationError, RefusedImageError
from service.gateway.images.decoding import Decoder, Pixels
from service.gateway.images.request_images import RequestImages
from service.gateway.images.uploads import Upload
from service.gateway.inference.catalog import Catalog, Choice
from service.gateway.inference.contracts import ContractCache
from service.gateway.inference.prediction import check_top, name_classes
from service.gateway.inference.resolution import answer_by_one_version
from service.gateway.telemetry.metrics import Metrics

_PREDICTED = -1  # as class index: whichever class is most probable


@dataclass(frozen=True, slots=True)
class Explanation:
    """One image explained.

    Attributes:
        picture: what the model saw, uint8, shape (height, width, channels).
        probabilities: float32, shape (num_classes,).
        ranked: every class, most probable first.
        explained: the class that the map is for.
        saliency: float32, shape (rows, columns), in [0, 1].
    """

    picture: Pixels
    probabilities: NDArray[np.floating]
    ranked: list[Prediction]
    explained: Prediction
    saliency: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ExplainAnswer:
    """What one request gets.

    Attributes:
        name: the model.
        version: the version whose pixels, maps and labels these are.
        contract: that version's contract.
        top: how many classes of each image are wanted.
        entries: for each image, the explanation or why it was refused.
    """

    name: str
    version: int
    contract: ModelContract
    top: int
    entries: list[Explanation | RefusedImageError]


class Explainer:
    """Answers requests for explanations.

    Args:
        backend: the model server.
        catalog: what is served.
        contracts: what each version promises.
        decoder: bytes to pixels.
        metrics: where stages and images are counted.
        max_batch: most images in one call of the model server.
    """

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog,
        *,
        contracts: ContractCache,
        decoder: Decoder,
        metrics: Metrics,
        max_batch: int,
    ) -> None:
        self._backend = backend
        self._catalog = catalog
        self._contracts = contracts
        self._decoder = decoder
        self._metrics = metrics
        self._max_batch = max_batch

    async def explain(
        self, uploads: Sequence[Upload], choice: Choice, *, wanted: str | None, top: int | None
    ) -> ExplainAnswer:
        """Explain images.

        Args:
            uploads: at least one.
            choice: model, and version or label.
            wanted: the class to explain, as `find_class` reads it; None for each image's most probable one.
            top: classes an image, best first; None for the default.

        Raises:
            RefusedImageError: if no image can be decoded; the first one's error.
            NoExplanationError: if the model has no explanations.
            InvalidValueError: if `wanted` or `top` is out of range.
            NotFoundError: if there is no such model, version or label.
            GatewayError: if the model server fails.
        """
        images = RequestImages(uploads, self._decoder, metrics=self._metrics, max_batch=self._max_batch)

        async def attempt(name: str, version: int) -> ExplainAnswer:
            return await self._explain_by(name, version, images=images, wanted=wanted, top=top)

        return await answer_by_one_version(self._catalog, self._contracts, choice, attempt)

    async def _explain_by(
        self, name: str, version: int, *, images: RequestImages, wanted: str | None, top: int | None
    ) -> ExplainAnswer:
        """Answer by exactly this version."""
        contract = await self._contracts.fetch(name, version)
        if contract.saliency is None:
            raise NoExplanationError(
                f"{name} version {version} has no explanations: it was imported, or its network has no feature map"
            )
        num_top = check_top(top, contract)
        class_index = _PREDICTED if wanted is None else find_class(wanted, contract)
        batches = await images.batches(contract.input)
        with self._metrics.stage("model"):
            found = await asyncio.gather(*(self._run(contract, name, version, batch, class_index) for batch in batches))
        entries = images.merge(explanation for part in found for explanation in part)
        return ExplainAnswer(name, version, contract, num_top, entries)

    async def _run(
        self, contract: ModelContract, name: str, version: int, batch: NDArray[np.uint8], class_index: int
    ) -> list[Explanation]:
        indices = np.full(len(batch), class_index, np.int32)
        probabilities, maps = await self._backend.explain(name, batch, indices, version=version)
        ranked = name_classes(probabilities, contract, len(contract.labels))
        _check_maps(maps, probabilities, len(batch))
        explanations = []
        for picture, row, classes, saliency in zip(batch, probabilities, ranked, maps, strict=True):
            chosen = next((item for item in classes if item.index == class_index), classes[0])
            explanations.append(Explanation(picture, row, classes, chosen, saliency))
        return explanations


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


def _check_maps(maps: NDArray[np.floating], probabilities: NDArray[np.floating], num_images: int) -> None:
    if maps.ndim != 3 or len(maps) != num_images or len(probabilities) != num_images or 0 in maps.shape:
        raise BrokenContractError(
            f"expected saliency of {num_images} images from the model server. Received: shape {maps.shape}"
        )
    if not np.isfinite(maps).all() or maps.min() < 0 or maps.max() > 1:
        raise BrokenContractError("expected saliency in [0, 1] from the model server. Received: something else")
