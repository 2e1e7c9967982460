"""One request, one version: resolve, prepare by that version's contract, predict, name the classes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.model import ModelContract
from contract.novelty import WARNING
from contract.predictions import Prediction, decide, decode_predictions
from service.gateway.backend.backend import Backend
from service.gateway.context.errors import BrokenContractError, InvalidValueError
from service.gateway.images.decoding import Decoder
from service.gateway.images.request_images import RequestImages
from service.gateway.images.uploads import Upload
from service.gateway.inference.catalog import Catalog, Choice, Target
from service.gateway.inference.contracts import ContractCache
from service.gateway.inference.micro_batching import MicroBatcher
from service.gateway.inference.resolution import answer_by_one_version
from service.gateway.inference.results import Answer, Classified
from service.gateway.telemetry.metrics import Metrics

DEFAULT_TOP = 3


class Predictor:
    """Answers requests for predictions.

    Args:
        backend: the model server.
        catalog: what is served.
        contracts: what each version promises.
        decoder: bytes to pixels.
        metrics: where stages, images and predictions are counted.
        batcher: calls the model server for a request's first images.
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
        batcher: MicroBatcher,
        max_batch: int,
    ) -> None:
        self._backend = backend
        self._batcher = batcher
        self._catalog = catalog
        self._contracts = contracts
        self._decoder = decoder
        self._metrics = metrics
        self._max_batch = max_batch

    async def predict(self, uploads: Sequence[Upload], choice: Choice, *, top: int | None) -> Answer:
        """Classify images.

        Args:
            uploads: at least one.
            choice: model, and version or label.
            top: classes an image, best first; None for three, or all when there are fewer.

        Raises:
            RefusedImageError: if no image can be decoded; the first one's error.
            InvalidValueError: if `top` is out of range.
            NotFoundError: if there is no such model, version or label.
            GatewayError: if the model server fails.
        """
        images = RequestImages(uploads, self._decoder, metrics=self._metrics, max_batch=self._max_batch)

        async def attempt(name: str, version: int) -> Answer:
            return await self._answer_by(name, version, images=images, top=top)

        async def by_newest(target: Target) -> Answer:
            return await self._answer_by_newest(target, images, top=top)

        answer = await answer_by_one_version(self._catalog, self._contracts, choice, attempt, by_newest=by_newest)
        self._metrics.count_answer(answer.name, answer.version, entries=answer.entries)
        return answer

    async def _answer_by(self, name: str, version: int, *, images: RequestImages, top: int | None) -> Answer:
        """Answer by exactly this version."""
        contract = await self._contracts.fetch(name, version)
        top = check_top(top, contract)
        with self._batcher.request(name, version, contract.input) as batched:
            batches = await images.batches(contract.input)
            with self._metrics.stage("model"):
                if len(batches) == 1:  # nearly always: no task for it
                    replies = [await batched.predict(batches[0])]
                else:
                    rest = [self._backend.predict(name, batch, version=version) for batch in batches[1:]]
                    replies = await asyncio.gather(batched.predict(batches[0]), *rest)
        probabilities = [reply.probabilities for reply in replies]
        return Answer(
            name,
            version,
            contract,
            images.merge(_classify(batches, probabilities, contract=contract, top=top)),
        )

    async def _answer_by_newest(self, target: Target, images: RequestImages, *, top: int | None) -> Answer:
        """Let the model server choose the version; what it chose for the first batch is named for the rest."""
        name, guess = target.name, target.versions[0]
        contract = await self._contracts.fetch(name, guess)
        num_top = check_top(top, contract)
        with self._batcher.request(name, None, contract.input) as batched:
            batches = await images.batches(contract.input)
            with self._metrics.stage("model"):
                first = await batched.predict(batches[0])
        if first.version != guess:
            self._catalog.invalidate(name)
            actual = await self._contracts.fetch(name, first.version)
            if actual.input != contract.input or len(batches) > 1:
                return await self._answer_by(name, first.version, images=images, top=top)
            contract, num_top = actual, check_top(top, actual)
        with self._metrics.stage("model"):
            rest = [self._backend.predict(name, batch, version=first.version) for batch in batches[1:]]
            replies = [first, *await asyncio.gather(*rest)]
        probabilities = [reply.probabilities for reply in replies]
        return Answer(
            name,
            first.version,
            contract,
            images.merge(_classify(batches, probabilities, contract=contract, top=num_top)),
        )


def _classify(
    batches: Sequence[NDArray[np.uint8]],
    probabilities: Sequence[NDArray[np.floating]],
    *,
    contract: ModelContract,
    top: int,
) -> list[Classified]:
    """Name the classes of each image of all batches, in order."""
    classified: list[Classified] = []
    for batch, rows in zip(batches, probabilities, strict=True):
        ranked = name_classes(rows, contract, top)
        warnings = find_warnings(batch, contract)
        for row, classes, found in zip(rows, ranked, warnings, strict=True):
            classified.append(Classified(classes, decide(row, contract), found))
    return classified


def name_classes(rows: NDArray[np.floating], contract: ModelContract, top: int) -> list[list[Prediction]]:
    """Return the `top` most probable classes of each row that the model server answered, best first.

    Raises:
        BrokenContractError: if the rows are not what the contract says.
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
