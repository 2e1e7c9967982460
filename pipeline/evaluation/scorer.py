"""Published versions as batch callables: a `Decoder` from paths to pixels, a `Scorer` from pixels to probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.cores import count_cores
from contract.errors import ContractError, ImageError
from contract.files.regular import read_regular
from contract.image import decode_image
from contract.model import InputSpec, ModelContract
from contract.predictions import check_probabilities
from contract.store import CONTRACT_FILE, ModelStore
from engine.engine import Engine
from engine.loading import load_engine
from engine.precision_names import AUTO
from pipeline.data.map_batches import map_batches
from pipeline.errors import VerificationError

Read = Callable[[str], bytes]
Decoded = NDArray[np.uint8] | ImageError | OSError


@dataclass(frozen=True)
class Decoder:
    """Decodes image files; an image that cannot be decoded gives its error.

    Attributes:
        read: gives a file's bytes.
        spec: how bytes become pixels.
    """

    read: Read
    spec: InputSpec

    def __call__(self, paths: Sequence[str]) -> list[tuple[str, Decoded]]:
        """Return each path with its pixels, uint8, shape (height, width, channels), or with its error."""
        return [(path, self._decode(path)) for path in paths]

    def _decode(self, path: str) -> Decoded:
        try:
            return decode_image(self.read(path), self.spec)
        except (ImageError, OSError) as err:
            return err


class Scorer:
    """Computes probabilities with a published version; a context manager that closes the engine.

    Only path and settings are pickled: another process loads the model at its first call.

    Args:
        directory: the version's folder, models/NAME/VERSION.
        precision: as `load_engine` takes it.
        num_threads: of the model, and as many that decode; 0 means one for each core.
    """

    def __init__(self, directory: Path, *, precision: str = AUTO, num_threads: int = 0) -> None:
        self.directory = directory
        self.precision = precision
        self.num_threads = num_threads

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities, float32, shape (batch, classes).

        Args:
            images: decoded as the contract says, uint8, shape (batch, height, width, channels).

        Raises:
            EngineError: if the model cannot be loaded or run.
            VerificationError: if the model breaks its contract.
        """
        probabilities = self.engine.run("serving_default", {"images": images}).get("probabilities")
        try:
            if probabilities is None:
                raise ContractError("serving_default has no output named probabilities")
            check_probabilities(probabilities, len(self.contract.labels))
        except ContractError as err:
            name = f"{self.directory.parent.name}/{self.directory.name}"
            raise VerificationError(f"{name} breaks its contract: {err}") from err
        return np.asarray(probabilities, np.float32)

    @cached_property
    def contract(self) -> ModelContract:
        """The version's contract."""
        return ModelContract.from_json(read_regular(self.directory / CONTRACT_FILE))

    @cached_property
    def engine(self) -> Engine:
        """Runs the model; loaded at the first use."""
        return load_engine(self.directory, precision=self.precision, num_threads=self.num_threads)

    def close(self) -> None:
        """Close the engine."""
        if "engine" in self.__dict__:
            self.__dict__.pop("engine").close()

    def __enter__(self) -> Scorer:
        """Load the model."""
        self.engine  # noqa: B018 - loads
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the engine."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process loads the model from."""
        return {"directory": self.directory, "precision": self.precision, "num_threads": self.num_threads}


def scorer_of(store: ModelStore, name: str, version: int, *, precision: str = AUTO) -> Scorer:
    """Return a scorer of a version in a store; `with` loads it.

    Raises:
        StoreError: if there is no such version.
        ContractError: if its contract is broken.
    """
    store.read_contract(name, version)
    return Scorer(store.version_path(name, version), precision=precision)


def predict_files(scorer: Scorer, read: Read, paths: Sequence[str]) -> NDArray[np.float32]:
    """Return probabilities of image files in order, float32, shape (images, classes).

    Args:
        scorer: a loaded version.
        read: gives a file's bytes.
        paths: at least one.

    Raises:
        ImageError, OSError: the first one that an image gives.
    """

    def score(batch: list[tuple[str, Decoded]]) -> NDArray[np.float32]:
        return scorer(np.stack([_image_or_raise(decoded) for _, decoded in batch]))

    return np.concatenate(list(map_batches(score, decode_files(read, paths, scorer.contract.input))))


def decode_files(
    read: Read, paths: Iterable[str], spec: InputSpec, *, num_threads: int = 0, num_readers: int = 0
) -> Iterator[tuple[str, Decoded]]:
    """Yield each path with its pixels, uint8 (height, width, channels), or with the error that it gave; in order.

    A bounded number of images is read and decoded ahead: memory does not grow with the number of files.

    Args:
        read: gives a file's bytes.
        paths: of the files.
        spec: how bytes become pixels.
        num_threads: that decode; 0 means one for each core.
        num_readers: threads that read ahead, where reading waits for a network; 0 means that decoding threads read.
    """
    with ThreadPoolExecutor(num_threads or count_cores()) as pool:
        if num_readers == 0:
            yield from itertools.chain.from_iterable(map_batches(Decoder(read, spec), paths, pool, size=1))
            return
        with ThreadPoolExecutor(num_readers) as readers:
            contents = map_batches(partial(_read_one, read), paths, readers, size=1)
            yield from map_batches(partial(_decode_one, spec), contents, pool, size=1)


def _read_one(read: Read, paths: Sequence[str]) -> tuple[str, bytes | OSError]:
    (path,) = paths
    try:
        return path, read(path)
    except OSError as err:
        return path, err


def _decode_one(spec: InputSpec, contents: Sequence[tuple[str, bytes | OSError]]) -> tuple[str, Decoded]:
    ((path, content),) = contents
    try:
        return path, content if isinstance(content, OSError) else decode_image(content, spec)
    except ImageError as err:
        return path, err


def _image_or_raise(decoded: Decoded) -> NDArray[np.uint8]:
    if isinstance(decoded, Exception):
        raise decoded
    return decoded
