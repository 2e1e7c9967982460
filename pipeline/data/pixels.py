"""Decoded images, kept in memory up to a limit: every stage of a run reads its pixels here."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.cores import count_cores
from contract.errors import ImageError
from contract.image import decode_image
from contract.model import InputSpec
from engine.memory import return_freed_memory
from pipeline.data.ingest import Source
from pipeline.data.map_batches import BATCH, map_batches
from pipeline.errors import LostImageError

Result = TypeVar("Result")

CACHE_BYTES = 4 * 10**9  # as cache.memory_gb
_PACKAGES = ("pillow", "numpy", "pi-heif", "pydicom")
_STACKED = 2**28  # bytes
_BLOCK = 2**22  # bytes of images that are kept in one array: thousands of small ones would leave holes in the heap


def pixel_packages() -> dict[str, str | None]:
    """Return the versions of the packages that pixels, and what is measured of them, depend on; None: not installed."""
    found: dict[str, str | None] = dict.fromkeys(_PACKAGES)
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = package_version(name)
    return found


def without_enlarging(spec: InputSpec, width: int, height: int) -> InputSpec:
    """Return a specification of fewer pixels for a picture that is smaller than the input; otherwise the same one.

    Args:
        spec: how bytes become pixels.
        width: of the upright picture.
        height: of the upright picture.
    """
    share = (width * spec.crop_fraction / spec.width, height * spec.crop_fraction / spec.height)
    if spec.fit != "stretch":  # the input's proportions are kept
        share = (max(share),) * 2 if spec.fit == "pad" else (min(share),) * 2
    along, down = (min(1.0, factor) for factor in share)
    return replace(spec, width=max(1, round(along * spec.width)), height=max(1, round(down * spec.height)))


class Pixels:
    """Images of one source, decoded and resized by one input specification.

    `pixels[path]` raises what is wrong with a file. The methods for many images are for those that were read before:
    they raise LostImageError, with the file's name.

    Args:
        source: reads the files.
        spec: how bytes become pixels.
        cache_bytes: decoded images kept; later ones are decoded again each time they are asked for.
    """

    def __init__(self, source: Source, spec: InputSpec, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.source = source
        self.spec = spec
        self._cache_bytes = self._free = cache_bytes
        self._lock = Lock()
        self._cache: dict[str, NDArray[np.uint8]] = {}
        self._block: Iterator[NDArray[np.uint8]] = iter(())  # places for the next images

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
        """Remember an image that is already decoded, if there is room; return the kept copy, or the image."""
        with self._lock:
            if path not in self._cache and self._free >= image.nbytes:
                self._free -= image.nbytes
                self._cache[path] = self._next_place()
                self._cache[path][...] = image
            return self._cache.get(path, image)

    def _next_place(self) -> NDArray[np.uint8]:
        place = next(self._block, None)
        if place is None:
            images = max(1, _BLOCK // math.prod(self.spec.shape))
            self._block = iter(np.empty((images, *self.spec.shape), np.uint8))
            place = next(self._block)
        return place

    def forget(self) -> None:
        """Forget all decoded images, to make room for others."""
        with self._lock:
            self._cache.clear()
            self._free, self._block = self._cache_bytes, iter(())

    @property
    def has_room(self) -> bool:
        """True while another image may be kept."""
        return self._free > 0

    def batch(self, paths: Sequence[str]) -> NDArray[np.uint8]:
        """Return several images, uint8, shape (batch, height, width, channels)."""
        return np.stack(self._decode(paths))

    def stack(self, paths: Sequence[str]) -> NDArray[np.uint8] | None:
        """Return images as one array, which then keeps them; None where one is not in memory, or for many bytes.

        Indexing it takes a fifth of the time of collecting small images.
        """
        with self._lock:
            if len(paths) * math.prod(self.spec.shape) > _STACKED or not all(path in self._cache for path in paths):
                return None
            stacked = np.empty((len(paths), *self.spec.shape), np.uint8)
            for place, path in zip(stacked, paths, strict=True):
                place[...] = self._cache[path]
                self._cache[path] = place
        return_freed_memory()
        return stacked

    def map(
        self, function: Callable[[NDArray[np.uint8]], Result], paths: Sequence[str], *, size: int = BATCH
    ) -> list[Result]:
        """Return `function(images)` for batches of images, uint8, shape (batch, height, width, channels), in order."""
        return list(map_batches(lambda images: function(np.stack(images)), self._each(paths), size=size))

    def batches(self, paths: Sequence[str], size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield images in order, at most `size` at a time, decoding ahead on all cores what is not decoded yet."""
        if all(path in self._cache for path in paths):
            return (np.stack([self._cache[path] for path in part]) for part in _parts(paths, size))
        return map_batches(np.stack, self._each(paths), size=size)

    def _each(self, paths: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor(count_cores()) as pool:
            yield from itertools.chain.from_iterable(map_batches(self._decode, paths, pool, size=1))

    def _decode(self, paths: Sequence[str]) -> list[NDArray[np.uint8]]:
        return [self._read_again(path) for path in paths]

    def _read_again(self, path: str) -> NDArray[np.uint8]:
        try:
            return self[path]
        except (ImageError, OSError, KeyError, zlib.error) as err:
            reason = (err.strerror if isinstance(err, OSError) else None) or err
            raise LostImageError(f"{self.source.location}: {path} cannot be read any more: {reason}") from err


def _parts(paths: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))
