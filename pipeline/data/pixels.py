"""Decoded images, kept in memory up to a limit: every stage of a run reads its pixels here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from contract.image import decode_image
from contract.model import InputSpec
from pipeline.data.ingest import Source

CACHE_BYTES = 4 * 10**9  # as cache.memory_gb


class Pixels:
    """Images of one source, decoded and resized by one input specification.

    Args:
        source: reads the files.
        spec: how bytes become pixels.
        cache_bytes: decoded images kept; later ones are decoded again each time they are asked for.
    """

    def __init__(self, source: Source, spec: InputSpec, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.source = source
        self.spec = spec
        self._free = cache_bytes
        self._lock = Lock()
        self._cache: dict[str, NDArray[np.uint8]] = {}

    def __getitem__(self, path: str) -> NDArray[np.uint8]:
        """Return one image, uint8, shape (height, width, channels); it must not be written to.

        Raises:
            ImageError: if it cannot be decoded.
            OSError: if it cannot be read.
        """
        cached = self._cache.get(path)
        if cached is not None:
            return cached
        return self.keep(path, decode_image(self.source.read(path), self.spec))

    def keep(self, path: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Remember an image that is already decoded, if there is room."""
        with self._lock:
            if path not in self._cache and self._free >= image.nbytes:
                self._free -= image.nbytes
                self._cache[path] = image
        return image

    def batch(self, paths: Sequence[str]) -> NDArray[np.uint8]:
        """Return several images, uint8, shape (batch, height, width, channels)."""
        return np.stack([self[path] for path in paths])

    def batches(self, paths: Sequence[str], size: int) -> Iterable[NDArray[np.uint8]]:
        """Yield images in order, at most `size` at a time, decoding ahead on all cores."""
        with ThreadPoolExecutor(cpu_count()) as pool:
            for start in range(0, len(paths), size):
                yield np.stack(list(pool.map(self.__getitem__, paths[start : start + size])))
