"""Makes batches of the images of one request, and puts the results back in the order of the request."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.model import InputSpec
from service.gateway.context.errors import RefusedImageError
from service.gateway.context.request_context import RequestContext
from service.gateway.images.decoding import Decoder, Pixels
from service.gateway.images.uploads import Upload
from service.gateway.telemetry.metrics import Metrics

T = TypeVar("T")


class ImageBatches:
    """The images of one request, decoded once for each way of preparing them.

    Args:
        uploads: the images as they came.
        context: of the request.
        decoder: bytes to pixels.
        metrics: where decoding is timed and refused images are counted.
        max_batch: most images in one call of the model server.
    """

    def __init__(
        self,
        uploads: Sequence[Upload],
        context: RequestContext,
        decoder: Decoder,
        *,
        metrics: Metrics,
        max_batch: int,
    ) -> None:
        self._data = [upload.data for upload in uploads]
        self._caller = context.caller
        self._decoder = decoder
        self._metrics = metrics
        self._max_batch = max_batch
        self._spec: InputSpec | None = None
        self._prepared: list[Pixels | RefusedImageError] = []

    async def batches(self, spec: InputSpec) -> list[NDArray[np.uint8]]:
        """Return the images that can be decoded as `spec` asks for them, stacked, at most `max_batch` at a time.

        Raises:
            RefusedImageError: if there is none; the first one's error.
        """
        if spec != self._spec:
            with self._metrics.stage("decode"):
                self._prepared = await self._decoder.decode(self._data, spec, caller=self._caller)
            self._spec = spec
        good = [item for item in self._prepared if not isinstance(item, RefusedImageError)]
        if not good:
            self._metrics.count_refused(self._prepared)
            raise next(item for item in self._prepared if isinstance(item, RefusedImageError))
        if len(good) == 1:
            return [good[0][np.newaxis]]  # a view: nothing is copied
        return [np.stack(good[start : start + self._max_batch]) for start in range(0, len(good), self._max_batch)]

    def by_caller(self, caller: str) -> ImageBatches:
        """Return the same images, for another caller to decode where they are not decoded as it needs them."""
        images = copy.copy(self)
        images._caller = caller
        return images

    def merge(self, answers: Iterable[T]) -> list[T | RefusedImageError]:
        """Return each image's answer, in the order of the request; for one that is in no batch, why it is refused."""
        answered = iter(answers)
        return [item if isinstance(item, RefusedImageError) else next(answered) for item in self._prepared]
