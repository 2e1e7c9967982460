"""Answers a request about images by one version: resolve, fetch the contract, prepare, call, decode."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.gateway.backend.backend import ModelReply
from service.gateway.backend.model_server import ModelServer
from service.gateway.context.errors import NotLoadedError
from service.gateway.context.request_context import RequestContext
from service.gateway.images.decoding import Decoder
from service.gateway.images.image_batches import ImageBatches
from service.gateway.images.uploads import Upload
from service.gateway.inference.contract_cache import ContractCache
from service.gateway.inference.fallback_versions import Attempts
from service.gateway.inference.image_results import Answer
from service.gateway.inference.micro_batching import BatchedRequest, MicroBatcher
from service.gateway.inference.signature import IMAGES, Served, Signature
from service.gateway.inference.version_resolution import Catalog, Choice
from service.gateway.telemetry.metrics import Metrics

T = TypeVar("T")


class VersionedCall:
    """Runs a signature of one version on the images of a request.

    Args:
        backend: the model server.
        catalog: the served models.
        contracts: what each version promises.
        decoder: bytes to pixels.
        metrics: where stages and refused images are counted.
        batcher: calls the model server for single images of several requests.
        max_batch: most images in one call of the model server.
    """

    def __init__(
        self,
        backend: ModelServer,
        catalog: Catalog,
        *,
        contracts: ContractCache,
        decoder: Decoder,
        metrics: Metrics,
        batcher: MicroBatcher,
        max_batch: int,
    ) -> None:
        self._backend = backend
        self._catalog = catalog
        self._contracts = contracts
        self._decoder = decoder
        self._metrics = metrics
        self._batcher = batcher
        self._max_batch = max_batch

    async def answer(
        self, context: RequestContext, choice: Choice, uploads: Sequence[Upload], signature: Signature[T]
    ) -> Answer[T]:
        """Answer a request.

        Args:
            context: of the request.
            choice: model, and version or label.
            uploads: at least one image.
            signature: to run, with the request's parameters.

        Raises:
            RefusedImageError: if no image can be decoded; the first one's error.
            InvalidValueError: if a parameter is out of range.
            NotFoundError: if there is no such model, version or label.
            GatewayError: if the model server fails, or as `signature` says.
        """
        return await self.run(self.task(context, uploads, signature), choice)

    def task(self, context: RequestContext, uploads: Sequence[Upload], signature: Signature[T]) -> ImageTask[T]:
        """Return the work of a request, for `run`."""
        images = ImageBatches(uploads, context, self._decoder, metrics=self._metrics, max_batch=self._max_batch)
        return ImageTask(signature, images, context)

    async def run(self, task: ImageTask[T], choice: Choice) -> Answer[T]:
        """Answer a task; raises what `answer` raises."""
        attempts = Attempts(self._catalog, self._contracts, choice)
        async for attempt in attempts:
            with attempt:
                return await self._answer_by(attempt.name, attempt.version, task, is_pinned=attempt.target.pinned)
        raise attempts.failure()

    async def run_by(self, name: str, version: int, task: ImageTask[T]) -> Answer[T]:
        """Answer a task by this version and no other.

        Raises:
            GatewayError: as `answer`, or if the version is not loaded.
        """
        try:
            return await self._answer_by(name, version, task, is_pinned=True)
        except NotLoadedError:
            self._contracts.drop(name, version)
            raise

    async def _answer_by(self, name: str, version: int, task: ImageTask[T], *, is_pinned: bool) -> Answer[T]:
        """Answer by this version; if it is not pinned, by the one that the model server chooses."""
        signature = task.signature
        served = Served(name, version, await self._contracts.fetch(name, version))
        signature.check(served)
        spec = served.contract.input
        with self._batcher.request(name, version if is_pinned else None, spec, signature) as batched:
            batches = await task.images.batches(spec)
            if task.is_shadow:
                replies = await self._call(served, batches, task, batched, is_pinned=is_pinned)
            else:
                with self._metrics.stage("model"), self._metrics.version(name, version):
                    replies = await self._call(served, batches, task, batched, is_pinned=is_pinned)
        answered = replies[0].version
        if answered != version:  # the images were prepared for another version than the model server chose
            self._catalog.invalidate(name)
            return await self._answer_by(name, answered, task, is_pinned=True)
        entries: list[T] = []
        for batch, reply in zip(batches, replies, strict=True):
            entries += signature.decode(served, batch, reply.outputs)
        precision = "+".join(sorted({reply.precision for reply in replies}))  # several only if servers share an address
        return Answer(name, version, served.contract, task.images.merge(entries), precision)

    async def _call(
        self,
        served: Served,
        batches: Sequence[NDArray[np.uint8]],
        task: ImageTask[T],
        batched: BatchedRequest,
        *,
        is_pinned: bool,
    ) -> list[ModelReply]:
        """Run the signature on each batch; unpinned, the version that answers the first one is named for the rest."""
        signature, deadline = task.signature, task.context.deadline

        def infer(inputs: Mapping[str, NDArray[Any]]) -> Awaitable[ModelReply]:
            version, outputs = served.version, signature.outputs
            return self._backend.infer(
                served.name, signature.name, inputs, outputs=outputs, version=version, deadline=deadline
            )

        first, *rest = [{IMAGES: batch, **signature.extra_inputs(served, len(batch))} for batch in batches]
        if is_pinned and rest:
            return await asyncio.gather(batched.infer(first, deadline), *map(infer, rest))
        reply = await batched.infer(first, deadline)
        if not rest or reply.version != served.version:
            return [reply]
        return [reply, *await asyncio.gather(*map(infer, rest))]


@dataclass(frozen=True, slots=True)
class ImageTask(Generic[T]):
    """The work of a request about images; tasks that share `images` decode them once.

    Attributes:
        signature: to run.
        images: of the request.
        context: of the request.
        is_shadow: whether the answer is dropped; then the metrics of requests leave it out.
    """

    signature: Signature[T]
    images: ImageBatches
    context: RequestContext
    is_shadow: bool = False
