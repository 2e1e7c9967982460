"""Returns the optic disc of a drawn eye, as the generator placed it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.sample.fundus import SIZES, Side, _draw_disc, _scene_grid


def disc_mask(*, seed: int, patient: int, side: Side, size: int) -> NDArray[np.float32]:
    """Return how much of each pixel of a square, stretched picture is disc, float32, shape (size, size), 0 to 1."""
    generator = np.random.default_rng([seed, patient, 2 if side == "OD" else 3])
    width, height = SIZES[generator.integers(len(SIZES))]
    disc = _draw_disc(generator)
    x, y = _scene_grid(width, height, disc, mirrored=side == "OS")
    cosine, sine = np.cos(disc.tilt), np.sin(disc.tilt)
    inside = np.hypot((x * cosine + y * sine) / disc.aspect, y * cosine - x * sine) <= 1
    rows = (np.arange(size)[:, None] + 0.5) * height / size
    columns = (np.arange(size)[None, :] + 0.5) * width / size
    return np.asarray(inside[rows.astype(int), columns.astype(int)], np.float32)
