"""Published versions at work on images: bytes in, probabilities out, by each version's own contract and engine/."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import cpu_count

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError, ImageError
from contract.image import decode_image
from contract.model import InputSpec, ModelContract
from contract.predictions import check_probabilities
from contract.store import ModelStore
from engine.engine import Engine
from engine.loading import load_engine
from engine.precision import AUTO
from pipeline.errors import VerificationError

BATCH = 32
_AHEAD = 2 * BATCH  # images that may be decoded before they are needed

Read = Callable[[str], bytes]
Decoded = NDArray[np.uint8] | ImageError | OSError


@dataclass(frozen=True)
class LoadedVersion:
    """A version of the store, ready to answer.

    Attributes:
        name: the model's.
        version: its number.
        contract: how it wants its images and what its classes are called.
        engine: runs it.
    """

    name: str
    version: int
    contract: ModelContract
    engine: Engine

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities, float32, shape (batch, classes), of decoded images.

        Raises:
            VerificationError: if the model breaks its contract.
        """
        probabilities = self.engine.run("serving_default", {"images": images}).get("probabilities")
        try:
            if probabilities is None:
                raise ContractError("serving_default has no output named probabilities")
            check_probabilities(probabilities, len(self.contract.labels))
        except ContractError as err:
            raise VerificationError(f"{self.name}/{self.version} breaks its contract: {err}") from err
        return np.asarray(probabilities, np.float32)


@contextmanager
def loaded_version(store: ModelStore, name: str, version: int, *, precision: str = AUTO) -> Iterator[LoadedVersion]:
    """Load a version for the length of a `with` block.

    Args:
        store: has it.
        name: the model's.
        version: its number.
        precision: as `load_engine` takes it.

    Raises:
        StoreError: if there is no such version.
        EngineError: if it cannot be loaded.
    """
    contract = store.read_contract(name, version)
    engine = load_engine(store.version_path(name, version), precision=precision)
    try:
        yield LoadedVersion(name, version, contract, engine)
    finally:
        engine.close()


def predict_files(model: LoadedVersion, read: Read, paths: Sequence[str]) -> NDArray[np.float32]:
    """Return probabilities of image files in order, float32, shape (images, classes).

    Args:
        model: a loaded version.
        read: gives a file's bytes.
        paths: at least one.

    Raises:
        ImageError, OSError: the first one that an image gives.
    """
    parts = []
    for batch in batched(decode_files(read, paths, model.contract.input), BATCH):
        images = [_image_or_raise(decoded) for _, decoded in batch]
        parts.append(model.predict(np.stack(images)))
    return np.concatenate(parts)


def decode_files(read: Read, paths: Iterable[str], spec: InputSpec) -> Iterator[tuple[str, Decoded]]:
    """Yield each path with its pixels, uint8 (height, width, channels), or with the error that it gave; in order.

    Decodes on all cores, a bounded number of images ahead, so memory does not grow with the number of files.
    """

    def decode(path: str) -> Decoded:
        try:
            return decode_image(read(path), spec)
        except (ImageError, OSError) as err:
            return err

    with ThreadPoolExecutor(cpu_count()) as pool:
        waiting: deque[tuple[str, Future[Decoded]]] = deque()
        try:
            for path in paths:
                waiting.append((path, pool.submit(decode, path)))
                if len(waiting) >= _AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def batched(items: Iterable[tuple[str, Decoded]], size: int) -> Iterator[list[tuple[str, Decoded]]]:
    """Yield lists of at most `size` items; itertools has this from Python 3.12 on."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _image_or_raise(decoded: Decoded) -> NDArray[np.uint8]:
    if isinstance(decoded, Exception):
        raise decoded
    return decoded
