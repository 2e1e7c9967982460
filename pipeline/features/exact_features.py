"""Float32 features of whole, unchanged images by one runtime, computed once and kept by the images' content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.map_batches import map_batches
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.features.feature_store import FeatureStore, make_key

_BATCH = 8  # always full, so that an image's features do not depend on how many are new
_SEGMENT = 256  # images written at once

Compute = Callable[[NDArray[Any]], NDArray[np.float32]]


class ExactFeatures:
    """Features of images in a store.

    Args:
        store: of one network and runtime, float32.
        pixels: decodes the images.
        compute: gives the features of decoded images, uint8, shape (batch, height, width, channels).

    Attributes:
        store: as given.
    """

    def __init__(self, store: FeatureStore, pixels: Pixels, compute: Compute) -> None:
        self.store = store
        self._pixels = pixels
        self._compute = compute

    def compute(self, rows: Sequence[ManifestRow]) -> list[str] | None:
        """Compute what is not in the store, and return the images' keys; None where there is no room.

        Raises:
            CacheError: if features cannot be written.
        """
        keys = [make_key(row.sha256, "original") for row in rows]
        missing = list({key: row for key, row in zip(keys, rows, strict=True) if key not in self.store}.items())
        if missing and not self.store.make_room(len(missing)):
            return None
        for start in range(0, len(missing), _SEGMENT):
            part = missing[start : start + _SEGMENT]
            features = np.concatenate(list(map_batches(self._of_batch, [row for _, row in part], size=_BATCH)))
            self.store.add([key for key, _ in part], features)
        return keys

    def _of_batch(self, rows: list[ManifestRow]) -> NDArray[np.float32]:
        paths = [row.path for row in rows]
        images = self._pixels.batch([*paths, *[paths[-1]] * (_BATCH - len(paths))])
        return self._compute(images)[: len(rows)]
