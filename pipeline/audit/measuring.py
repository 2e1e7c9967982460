"""Measures image files for the audit: in the caller's thread at first, in processes of its own from then on.

Small pictures cost more Python than decoding, so threads wait for each other. Processes are spawned, as a fork would
copy TensorFlow's locks, and only for sets whose measuring takes longer than their start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from contract.cores import count_cores
from contract.errors import ImageError
from contract.image import decode_image, read_header
from contract.model import InputSpec
from pipeline.data.image_facts import ImageFacts, read_facts
from pipeline.data.image_quality import ImageQuality, measure_quality
from pipeline.data.pixels import without_enlarging
from pipeline.errors import WorkerError

HERE = 2_000  # files that are measured without a process: as long as processes need to start
_MOST_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """The facts of one file.

    Attributes:
        quality: of its pixels.
        facts: beside its subject.
        pixels: uint8, as the model sees them; None where the picture is smaller, or the caller needs none.
    """

    quality: ImageQuality
    facts: ImageFacts
    pixels: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The reason why a file cannot be used.

    Attributes:
        code: stable name of the reason.
        message: the reason in words.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class FileMeasure:
    """Decodes and measures files.

    A picture that is smaller than the input is measured in its own size: enlarging it tells nothing more. Its borders
    and colours are measured where the audit is deep.
    """

    spec: InputSpec
    deep: bool
    returns_pixels: bool

    def __call__(self, files: Sequence[bytes]) -> list[Measured | Refused]:
        """Return each file's facts, or the reason why it cannot be used."""
        return [self._measure(file) for file in files]

    def _measure(self, file: bytes) -> Measured | Refused:
        try:
            header = read_header(file, decoder=self.spec.decoder)
            smaller = without_enlarging(self.spec, *header.upright_size)
            pixels = decode_image(file, smaller)
        except ImageError as err:
            return Refused(err.code, str(err))
        returned = pixels if self.returns_pixels and smaller == self.spec else None
        facts = read_facts(file, header, pixels if self.deep else None)
        return Measured(measure_quality(header, pixels), facts, returned)


class Measurer:
    """Measures files for several threads; beyond the first `here` files in processes.

    Args:
        measure: decodes and measures.
        here: files that are measured in the caller's thread.
    """

    def __init__(self, measure: FileMeasure, *, here: int = HERE) -> None:
        self._measure = measure
        self._left = here
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, files: Sequence[bytes]) -> list[Measured | Refused]:
        """Return each file's facts, or the reason why it cannot be used.

        Raises:
            WorkerError: if a process ended before its time.
        """
        with self._lock:
            self._left -= len(files)
            future = None if self._left >= 0 else self._submit(files)
        if future is None:
            return self._measure(files)
        try:
            return future.result()
        except BrokenProcessPool as err:
            raise _ended() from err

    def _submit(self, files: Sequence[bytes]) -> Future[list[Measured | Refused]]:
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(num_processes(), mp_context=spawn, initializer=_end_with_parent)
        try:
            with _blocked_interrupts():  # inherited by processes that this starts: Ctrl-C is the caller's
                return self._pool.submit(self._measure, files)
        except BrokenProcessPool as err:
            raise _ended() from err

    def __enter__(self) -> Measurer:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes; what has not begun is cancelled."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def num_processes() -> int:
    """Return how many processes measure at a time."""
    return min(count_cores(), _MOST_PROCESSES)


def _ended() -> WorkerError:
    return WorkerError(
        "a process that decodes images ended before its time: it was killed, as for want of memory, or a file broke "
        "the decoder. Free memory and start again; images that are measured already are not decoded again"
    )


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this process when the one that spawned it is gone, also by a kill."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
