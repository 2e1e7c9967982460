"""Decodes images in a bounded number of threads, within a budget for each request, callers in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from contract.errors import ImageError, ImageTooLargeError
from contract.image import OpenImage, open_image
from contract.model import InputSpec
from service.gateway.bodies.turns import Shift, Turns
from service.gateway.context.errors import RefusedImageError, TooMuchDecodingError
from service.gateway.context.request_context import ANONYMOUS

Pixels = NDArray[np.uint8]
_Result = Pixels | RefusedImageError
# The event loop decodes an image itself where handing it to a thread and back, about a millisecond where processors
# sleep between requests, would be a good part of the whole.
_SMALL_BYTES = 128 << 10
_SMALL_S = 0.01
_LIGHT_SHARE = 0.1  # of the budget: the most that the reserve thread decodes
_SETTING = "FOVEA_DECODE_BUDGET_S"


class Decoder:
    """Threads around `contract.image.open_image`; Pillow releases the interpreter while it decodes.

    Args:
        threads: images decoded at once. One further thread decodes light images, those of at most a tenth of the
            budget, while all others decode heavier ones.
        max_pixels: refuse images whose header declares more.
        budget_s: decoding time of all images of a request, as `contract.images.decoding_time` estimates it, seconds.
        is_quiet: whether the event loop has no other request to answer.
    """

    def __init__(
        self, *, threads: int, max_pixels: int, budget_s: float, is_quiet: Callable[[], bool] = lambda: False
    ) -> None:
        self._turns = Turns(threads, name="decode", has_reserve=True)
        self._max_pixels = max_pixels
        self._budget_s = budget_s
        self._light_s = _LIGHT_SHARE * budget_s
        self._small_s = min(_SMALL_S, budget_s)
        self._is_quiet = is_quiet

    async def decode(self, images: Sequence[bytes], spec: InputSpec, *, caller: str = ANONYMOUS) -> list[_Result]:
        """Prepare images as a model takes them; those that wait are dropped if the caller is cancelled.

        Args:
            images: image files.
            spec: how they are prepared.
            caller: whose turn they take.

        Returns:
            In the order given: uint8, shape (height, width, channels), or why the image is refused.

        Raises:
            TooMuchDecodingError: if the images take more than the budget together.
        """
        if len(images) == 1:  # nearly always: it needs no bookkeeping
            if len(images[0]) <= _SMALL_BYTES and self._is_quiet():
                small = self._decode_small(images[0], spec)
                if small is not None:
                    return [small]
            return [await self._turns.submit(self._work(images[0], spec), caller=caller)]
        await self._check_together(images, spec, caller=caller)
        return await asyncio.gather(*[self._turns.submit(self._work(image, spec), caller=caller) for image in images])

    def check(self, image: OpenImage) -> None:
        """Refuse an image that takes more than the budget by itself.

        Raises:
            ImageTooLargeError: with the way round.
        """
        if image.seconds > self._budget_s:
            width, height = image.size
            raise ImageTooLargeError(
                f"decoding takes about {image.seconds:.2f} s; the limit is {self._budget_s:g} s ({_SETTING}). "
                f"Received: {image.format}, {width} x {height}, {image.mode}; send it smaller, or as a baseline JPEG"
            )

    def close(self) -> None:
        """Let the threads end once nothing waits."""
        self._turns.close()

    async def _check_together(self, images: Sequence[bytes], spec: InputSpec, *, caller: str) -> None:
        """Refuse images that take more than the budget together; those that are refused by themselves do not count."""
        seconds = await self._turns.submit(lambda _: self._add_up(images, spec), caller=caller)
        if seconds > self._budget_s:
            raise TooMuchDecodingError(
                f"decoding the {len(images)} images takes more than {self._budget_s:g} s, the limit of one request "
                f"({_SETTING}); send fewer images in one request, or smaller ones"
            )

    def _add_up(self, images: Sequence[bytes], spec: InputSpec) -> float:
        """Return the estimated time of decoding images, or the first sum beyond the budget, seconds."""
        total = 0.0
        for data in images:
            try:
                image = open_image(data, spec, max_pixels=self._max_pixels)
                self.check(image)
            except ImageError:
                continue
            total += image.seconds
            if total > self._budget_s:
                break
        return total

    def _decode_small(self, data: bytes, spec: InputSpec) -> _Result | None:
        """Decode on this thread; None if it takes too long for that."""
        try:
            image = open_image(data, spec, max_pixels=self._max_pixels)
            return image.decode() if image.seconds <= self._small_s else None
        except ImageError as err:
            return RefusedImageError(err)

    def _work(self, data: bytes, spec: InputSpec) -> Callable[[Shift], _Result]:
        def work(shift: Shift) -> _Result:
            try:
                image = open_image(data, spec, max_pixels=self._max_pixels)
                self.check(image)
                if image.seconds > self._light_s:
                    shift.declare_heavy()
                return image.decode()
            except ImageError as err:
                return RefusedImageError(err)

        return work
