"""Bytes to pixels off the event loop, in a bounded number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from contract.errors import ImageError
from contract.image import decode_image
from contract.model import InputSpec
from service.gateway.errors import RefusedImageError

Pixels = NDArray[np.uint8]


class Decoder:
    """A pool of threads around `contract.image.decode_image`; Pillow lets go of the interpreter while it decodes.

    Args:
        threads: images decoded at once; more wait, so memory is bounded by this number times the largest image.
        max_pixels: refuse images whose header declares more.
    """

    def __init__(self, *, threads: int, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels

    async def decode(self, images: Sequence[bytes], spec: InputSpec) -> list[Pixels | RefusedImageError]:
        """Prepare images as a model takes them.

        Returns:
            In the order given: uint8, shape (height, width, channels), or why the image is refused.
        """
        loop = asyncio.get_running_loop()
        if len(images) == 1:  # nearly always: no tasks for it
            return [await loop.run_in_executor(self._pool, self._decode, images[0], spec)]
        return await asyncio.gather(*(loop.run_in_executor(self._pool, self._decode, image, spec) for image in images))

    def close(self) -> None:
        """Let the threads end; images that wait are given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, image: bytes, spec: InputSpec) -> Pixels | RefusedImageError:
        try:
            return decode_image(image, spec, max_pixels=self._max_pixels)
        except ImageError as err:
            return RefusedImageError(err)
