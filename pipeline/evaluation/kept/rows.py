"""Keeps a row of numbers for each image by its content; what cannot be written is computed again by the next run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.split import ManifestRow
from pipeline.errors import CacheError
from pipeline.features.feature_store import FeatureStore, make_key
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

_MAX_BYTES = 10**8


class KeptRows:
    """Rows of float32 numbers by the images' content.

    Args:
        folder: of all rows of this kind.
        kind: what the rows are, such as "predictions"; a part of their keys.
        facts: what the numbers depend on beside the image, for JSON.
        count: numbers of a row.
    """

    def __init__(self, folder: Path, kind: str, facts: Sequence[Any], count: int) -> None:
        self._kind = kind
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        self._store = FeatureStore(folder, name, shape=(count,), max_bytes=_MAX_BYTES, precision="float32")

    def key(self, row: ManifestRow) -> str:
        """Return the key of an image."""
        return make_key(row.sha256, self._kind)

    def __contains__(self, key: str) -> bool:
        """Return whether there is a row under a key."""
        return key in self._store

    def batch(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of keys that are there, at least one: float32, shape (keys, count)."""
        return self._store.batch(keys)

    def add(self, keys: Sequence[str], values: NDArray[np.float32]) -> None:
        """Keep rows, of which those that are there already stay; where they cannot be written, a warning says so."""
        new = {key: row for key, row in zip(keys, values, strict=True) if key not in self._store}
        try:
            if new and self._store.make_room(len(new)):
                self._store.add(list(new), np.stack(list(new.values())))
        except CacheError as err:
            warn(log, Weight.SPEED, "The %s of images are not kept: %s", self._kind, err)
