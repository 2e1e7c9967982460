"""Bytes to pixels, in a bounded number of threads; on the event loop only a small image while nobody else is here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ImageError, ImageTooLargeError
from contract.image import decode_image
from contract.model import InputSpec
from service.gateway.errors import GatewayError, RefusedImageError

Pixels = NDArray[np.uint8]
_Result = Pixels | RefusedImageError
_Job = tuple["asyncio.Future[_Result]", bytes, InputSpec]
# What is decoded on the event loop takes it a few milliseconds; handing it to a thread and back takes about one, where
# processors sleep between requests.
_SMALL_BYTES = 128 << 10
_SMALL_PIXELS = 1 << 19


class Decoder:
    """Threads around `contract.image.decode_image`; Pillow lets go of the interpreter while it decodes.

    Not a ThreadPoolExecutor: its futures lock, and asyncio wraps each in another; that costs as much as a small image.

    Args:
        threads: images decoded at once; more wait, so memory is bounded by this number times the largest image.
        max_pixels: refuse images whose header declares more.
        is_quiet: whether the event loop has nobody else to answer.
    """

    def __init__(self, *, threads: int, max_pixels: int, is_quiet: Callable[[], bool] = lambda: False) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._max_threads = threads
        self._threads: list[Thread] = []
        self._max_pixels = max_pixels
        self._is_quiet = is_quiet

    async def decode(self, images: Sequence[bytes], spec: InputSpec) -> list[_Result]:
        """Prepare images as a model takes them; those that wait are dropped if the caller is cancelled.

        Returns:
            In the order given: uint8, shape (height, width, channels), or why the image is refused.
        """
        if len(images) == 1 and len(images[0]) <= _SMALL_BYTES and self._is_quiet():
            small = self._decode_small(images[0], spec)
            if small is not None:
                return [small]
        self._start_threads()
        loop = asyncio.get_running_loop()
        results: list[asyncio.Future[_Result]] = []
        for image in images:
            result: asyncio.Future[_Result] = loop.create_future()
            results.append(result)
            self._jobs.put((result, image, spec))
        if len(results) == 1:  # nearly always: it needs no bookkeeping
            return [await results[0]]
        return await asyncio.gather(*results)

    def close(self) -> None:
        """Let the threads end once nothing waits."""
        for _ in self._threads:
            self._jobs.put(None)

    def _start_threads(self) -> None:
        while len(self._threads) < self._max_threads:
            thread = Thread(target=self._work, name=f"decode_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, image, spec = job
            if not result.cancelled():
                outcome = self._decode(image, spec)
                try:
                    result.get_loop().call_soon_threadsafe(_deliver, result, outcome)
                except RuntimeError:
                    return  # the loop has ended; nobody waits any more
            del job, result, image  # or the last image would stay in memory until the next one comes

    def _decode_small(self, image: bytes, spec: InputSpec) -> _Result | None:
        """Decode on this thread; None if there are too many pixels for that."""
        try:
            return decode_image(image, spec, max_pixels=min(_SMALL_PIXELS, self._max_pixels))
        except ImageTooLargeError:
            return None
        except ImageError as err:
            return RefusedImageError(err)

    def _decode(self, image: bytes, spec: InputSpec) -> _Result | Exception:
        try:
            return decode_image(image, spec, max_pixels=self._max_pixels)
        except ImageError as err:
            return RefusedImageError(err)
        except Exception as err:  # noqa: BLE001 - a fault of ours: the thread lives on, the request gets it
            return err


def _deliver(result: asyncio.Future[Any], outcome: _Result | Exception) -> None:
    if result.done():
        return
    if isinstance(outcome, Exception) and not isinstance(outcome, GatewayError):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)
