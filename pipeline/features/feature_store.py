"""Stores features on disk, keyed by their inputs: segments that appear whole or not at all, the oldest go first.

A segment is one .npy file of records (key, features), written under another name and renamed; its name is never used
again. So runs that share the folder need no lock: at worst two compute the same features. A run that is killed keeps
every segment that it had finished.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CacheError
from pipeline.run_warnings import Weight, warn
from pipeline.segments import delete_segments, list_segments, write_segment

log = logging.getLogger(__name__)

FOLDER = Path(".cache") / "features"  # below the folder of runs
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})


class FeatureStore:
    """The features that one network computes, of any images.

    Args:
        folder: of all features of all networks.
        network: names the network and all that happens before it, such as a hash.
        shape: of one image's features.
        max_bytes: that `folder` may hold.
        precision: of the numbers on disk, 2 or 4 bytes each.

    Attributes:
        network: as given.
        folder: of its segments; made with the first one.
    """

    def __init__(
        self,
        folder: Path,
        network: str,
        *,
        shape: tuple[int, ...],
        max_bytes: int,
        precision: Literal["float16", "float32"] = "float16",
    ) -> None:
        self.network = network
        self._folder = folder
        self.folder = folder / network
        self._record = np.dtype([("key", "S64"), ("features", np.dtype(precision).newbyteorder("<"), shape)])
        self._max_bytes = max_bytes
        self._known: dict[bytes, NDArray[np.floating]] = {}
        self._used: set[Path] = set()
        _allow_open_files()
        for path in sorted(self.folder.glob("*.npy")):
            self._open(path)

    def __contains__(self, key: str) -> bool:
        """Return whether features are there under a key that `make_key` made."""
        return key.encode() in self._known

    def size_of(self, count: int) -> int:
        """Return the bytes that the features of `count` images take."""
        return count * self._record.itemsize

    def batch(self, keys: Sequence[str]) -> NDArray[Any]:
        """Return the features under some keys, in the precision of the store, shape (batch, *shape)."""
        return np.stack([self._known[key.encode()] for key in keys])

    def make_room(self, count: int) -> bool:
        """Delete the longest unused segments until the features of `count` more images fit.

        Segments that this store has opened stay.

        Returns:
            Whether they fit; if they do not, nothing is deleted.
        """
        total, free = list_segments(self._folder, ".npy", self._used)
        excess = total + self.size_of(count) - self._max_bytes
        if excess > sum(size for size, _ in free):
            return False
        return delete_segments(free, excess)

    def add(self, keys: Sequence[str], features: NDArray[np.floating]) -> None:
        """Write a segment.

        Args:
            keys: from `make_key`.
            features: shape (batch, *shape).

        Raises:
            CacheError: if the disk is full or cannot be written to; features added before stay.
        """
        records = np.empty(len(keys), self._record)
        records["key"] = [key.encode() for key in keys]
        records["features"] = features
        content = io.BytesIO()
        np.save(content, records)  # straight to a file, numpy would not say why a write failed
        try:
            path = write_segment(self.folder, ".npy", content.getbuffer())
        except OSError as err:
            raise CacheError(self._explain(err, records.nbytes)) from err
        with suppress(OSError):  # such as where another run has made room meanwhile: the records stay in memory
            records = self._map(path)
        self._take(path, records)

    def _open(self, path: Path) -> None:
        try:
            records = self._map(path)
            os.utime(path)
        except FileNotFoundError:
            return  # another run made room meanwhile
        except OSError as err:
            text = "%s cannot be read and is not used; its features are computed again: %s"
            warn(log, Weight.SPEED, text, path, err.strerror or err)
            return
        except ValueError as err:
            warn(log, Weight.SPEED, "%s is damaged and is not used; its features are computed again: %s", path, err)
            return
        self._take(path, records)

    def _map(self, path: Path) -> NDArray[Any]:
        """Return the records of a segment.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is none of this store.
        """
        try:
            records: NDArray[Any] = np.load(path, mmap_mode="r")
        except EOFError as err:
            raise ValueError(str(err)) from err
        if records.dtype != self._record:
            raise ValueError(f"expected records {self._record}. Received: {records.dtype}")
        return records

    def _take(self, path: Path, records: NDArray[Any]) -> None:
        self._used.add(path)
        self._known |= zip(records["key"].tolist(), records["features"], strict=True)

    def _explain(self, err: OSError, size: int) -> str:
        what = "the disk is full" if err.errno in _FULL else (err.strerror or str(err))
        expected, advice = f"room for {size / 1e6:.0f} MB more", "make room, or choose another --runs-dir"
        if err.errno in _TOO_MANY_FILES:
            expected, advice = "a process that may open more files", "allow it more, such as by ulimit -n 4096"
        return (
            f"features cannot be written to {self.folder}: {what}. Expected {expected}. "
            f"Stored features are kept for the next run of the command; {advice}, or --set cache.features=false"
        )


@cache
def _allow_open_files() -> None:
    """Let this process open as many files as it may: a mapped segment stays open, and a run has thousands of them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # a system may have a limit of its own below the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def make_key(image_sha256: str, view: str) -> str:
    """Return the key of one view of one image, 64 hex digits.

    Args:
        image_sha256: of the image's file.
        view: the changes to the image before the network.
    """
    return hashlib.sha256(f"{image_sha256} {view}".encode()).hexdigest()
