"""Keeps the novelty check's statistics of images by content: a rerun measures new images alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.novelty import RULE, STATISTICS, measure_images
from pipeline.data.pixels import Pixels, pixel_packages
from pipeline.data.split import ManifestRow
from pipeline.evaluation.kept.rows import KeptRows

FOLDER = Path(".cache") / "statistics"  # below the folder of runs


class KeptStatistics:
    """Statistics of images as they are prepared for one input, kept by the images' content.

    Args:
        runs_dir: where runs are recorded.
        pixels: decodes the images.
    """

    def __init__(self, runs_dir: Path, pixels: Pixels) -> None:
        self._pixels = pixels
        count = len(STATISTICS[pixels.spec.channels])
        facts = [RULE, pixels.spec.document(), pixel_packages()]
        self._rows = KeptRows(runs_dir / FOLDER, "statistics", facts, count)

    def measure(self, rows: Sequence[ManifestRow]) -> NDArray[np.float32]:
        """Return the statistics of images, float32, shape (images, statistics)."""
        keys = [self._rows.key(row) for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._rows}
        values = measure_rows(list(new.values()), self._pixels)
        kept = [key for key in keys if key not in new]
        found = dict(zip(kept, self._rows.batch(kept), strict=True)) if kept else {}
        self._rows.add(list(new), values)
        found |= zip(new, values, strict=True)
        return np.stack([found[key] for key in keys]) if keys else values


def measure_rows(rows: Sequence[ManifestRow], pixels: Pixels) -> NDArray[np.float32]:
    """Return the statistics of images, float32, shape (images, statistics)."""
    parts = pixels.map(measure_images, [row.path for row in rows])
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
