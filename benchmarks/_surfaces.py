"""Pictures of four kinds of surface, through each of which another kind shines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64  # pixels
KINDS = ("bricks", "dots", "ripples", "weave")
_MOST_OF_ANOTHER = 0.5  # a half makes a coin
_NOISE = 12.0  # grey levels


def draw_set(folder: Path, *, seed: int, train: int, test: int) -> None:
    """Write folder/train and folder/test, a folder a kind.

    Args:
        folder: gets them.
        seed: another one draws other pictures.
        train: pictures a kind.
        test: pictures a kind.
    """
    for split, count in (("train", train), ("test", test)):
        for k, kind in enumerate(KINDS):
            for i in range(count):
                path = folder / split / kind / f"{i:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                rng = np.random.default_rng([seed, k, i, split == "test"])
                Image.fromarray(_draw_picture(kind, rng)).save(path)


def _draw_picture(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    another = rng.choice([other for other in KINDS if other != kind])
    share = rng.uniform(0, _MOST_OF_ANOTHER)
    relief = (1 - share) * _draw_relief(kind, rng) + share * _draw_relief(another, rng)
    y, x = np.mgrid[:SIZE, :SIZE]
    ground, ink = rng.uniform(90, 165, 3), rng.uniform(40, 90, 3) * rng.choice([-1, 1])
    light = 1 + rng.uniform(-0.3, 0.3) * (x - y) / SIZE
    pixels = (ground + relief[..., None] * ink) * light[..., None] + rng.normal(0, _NOISE, (SIZE, SIZE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _draw_relief(kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return heights from 0 to 1."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    turn, scale = rng.uniform(-0.5, 0.5), rng.uniform(9, 15)
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / scale, (y * np.cos(turn) - x * np.sin(turn)) / scale
    u, v = u + rng.uniform(0, 9), v + rng.uniform(0, 9)
    if kind == "bricks":
        return ((np.abs((u / 2 + np.floor(v) / 2) % 1 - 0.5) < 0.42) & (np.abs(v % 1 - 0.5) < 0.38)).astype(float)
    if kind == "dots":
        return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.3).astype(float)
    if kind == "ripples":
        return 0.5 + 0.5 * np.sin(2 * np.pi * u + 1.5 * np.sin(v))
    return np.where((np.floor(u) + np.floor(v)) % 2 == 0, np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v)))
