"""Keeps the novelty check's statistics of images by content: a rerun measures new images alone."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.novelty import RULE, STATISTICS, measure_images
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.errors import CacheError
from pipeline.features.feature_store import FeatureStore, make_key
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

FOLDER = Path(".cache") / "statistics"  # below the folder of runs
_MAX_BYTES = 10**8


class KeptStatistics:
    """Statistics of images as they are prepared for one input, kept by the images' content.

    Args:
        runs_dir: where runs are recorded.
        pixels: decodes the images.
    """

    def __init__(self, runs_dir: Path, pixels: Pixels) -> None:
        self._pixels = pixels
        digest = hashlib.sha256(json.dumps([RULE, pixels.spec.document()]).encode()).hexdigest()
        shape = (len(STATISTICS[pixels.spec.channels]),)
        name = digest[:32]
        self._store = FeatureStore(runs_dir / FOLDER, name, shape=shape, max_bytes=_MAX_BYTES, precision="float32")

    def measure(self, rows: Sequence[ManifestRow]) -> NDArray[np.float32]:
        """Return the statistics of images, float32, shape (images, statistics)."""
        keys = [make_key(row.sha256, "statistics") for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._store}
        values = measure_rows(list(new.values()), self._pixels)
        found = dict(zip(new, values, strict=True))
        self._keep(found)
        if len(found) == len(keys):  # nothing was kept, or there are no images
            return values
        kept = [key for key in keys if key not in found]
        found |= zip(kept, self._store.batch(kept), strict=True) if kept else ()
        return np.stack([found[key] for key in keys])

    def _keep(self, found: dict[str, NDArray[np.float32]]) -> None:
        """Write statistics down; where they cannot be written, the next run measures again."""
        try:
            if found and self._store.make_room(len(found)):
                self._store.add(list(found), np.stack(list(found.values())))
        except CacheError as err:
            warn(log, Weight.SPEED, "The statistics of images are not kept: %s", err)


def measure_rows(rows: Sequence[ManifestRow], pixels: Pixels) -> NDArray[np.float32]:
    """Return the statistics of images, float32, shape (images, statistics)."""
    parts = pixels.map(measure_images, [row.path for row in rows])
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
