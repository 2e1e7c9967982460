"""Grow and paint the retinal vessels of one eye, in disc radii from the disc's centre (see fundus.py)."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

Kind = Literal["artery", "vein"]

STEP = 0.1
MIN_WIDTH = 0.02
# The corners of the largest picture lie this far from the disc.
FARTHEST = 4.4
SUPERSAMPLING = 2
# Heading where a trunk leaves the disc, and the heading it bends to: arcades leave almost vertically, then sweep around
# the fovea on the temporal side; nasal trunks spread straight.
TRUNKS = (
    (-1.75, -0.55, 1.0),
    (1.75, 0.55, 1.0),
    (-2.05, -2.65, 0.72),
    (2.05, 2.65, 0.72),
)
TWIGS = ((-0.5, -0.25, 0.3), (0.45, 0.2, 0.3), (3.1, 3.1, 0.34), (-2.75, -3.0, 0.3), (0.05, 0.0, 0.24))


@dataclass(frozen=True)
class Vessel:
    """One unbranched vessel.

    `points` is float64, shape (num_points, 2), x and y in disc radii; `widths` has shape (num_points,), in disc radii.
    """

    kind: Kind
    points: np.ndarray
    widths: np.ndarray


def grow_vessels(rng: np.random.Generator) -> list[Vessel]:
    """Return all vessels of an eye: four pairs of trunks, twigs across the rim, and their branches."""
    root = np.array([rng.uniform(-0.28, -0.02), rng.normal(0.0, 0.06)])
    vessels: list[Vessel] = []
    for start, end, calibre in TRUNKS:
        both = rng.normal(0.0, 0.16)
        apart = rng.uniform(0.10, 0.30) * rng.choice([-1, 1])
        pair: tuple[tuple[Kind, float, float], ...] = (("vein", 0.14, apart), ("artery", 0.105, -apart))
        for kind, width, turn in pair:
            width *= calibre * rng.uniform(0.85, 1.15)
            vessels += _grow_tree(rng, kind, root, start + both + turn, end + both + turn * 0.6, width)
    for start, end, calibre in TWIGS:
        if rng.random() < 0.7:
            twig: Kind = "vein" if rng.random() < 0.45 else "artery"
            turn = rng.normal(0.0, 0.22)
            vessels += _grow_tree(rng, twig, root, start + turn, end + turn, 0.15 * calibre)
    return vessels


def _grow_tree(
    rng: np.random.Generator, kind: Kind, root: np.ndarray, start: float, end: float, width: float
) -> list[Vessel]:
    """Return a vessel from `root` that turns from heading `start` to `end` (radians), with two orders of branches."""
    length = rng.uniform(4.4, 5.2) if width > 0.06 else rng.uniform(2.0, 4.0)
    trunk = _grow_vessel(rng, kind, root, start, end, width, length)
    tree, parents = [trunk], [trunk]
    for _ in range(2):
        children = [child for parent in parents for child in _grow_branches(rng, parent)]
        tree += children
        parents = children
    return tree


def _grow_vessel(
    rng: np.random.Generator, kind: Kind, root: np.ndarray, start: float, end: float, width: float, length: float
) -> Vessel:
    count = max(int(length / STEP), 6)
    along = np.linspace(0.0, 1.0, count)
    bend = 1.0 / (1.0 + np.exp(-(along - rng.uniform(0.3, 0.5)) * 9.0))
    waves = sum(rng.normal(0.0, 0.11) * np.sin(2 * np.pi * (along * k + rng.random())) for k in (1.5, 3.0, 5.0))
    heading = start + (end - start) * bend + waves
    steps = STEP * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    points = root + np.cumsum(steps, axis=0) - steps[0]
    return Vessel(kind, points, width * (1.0 - 0.5 * along))


def _grow_branches(rng: np.random.Generator, parent: Vessel) -> list[Vessel]:
    """Return the branches of one vessel, leaving outside the disc to alternating sides."""
    branches = []
    position, hand = rng.integers(8, 16), rng.choice([-1, 1])
    while position < len(parent.points) - 3:
        point, before = parent.points[position], parent.points[position - 1]
        width = parent.widths[position] * rng.uniform(0.42, 0.72)
        if width > MIN_WIDTH and 1.15 < np.hypot(point[0], point[1]) < FARTHEST:
            heading = np.arctan2(*(point - before)[::-1])
            start = heading + hand * rng.uniform(0.45, 0.95)
            end = heading + hand * rng.uniform(0.1, 0.9)
            branches.append(_grow_vessel(rng, parent.kind, point, start, end, width, rng.uniform(1.0, 3.4)))
            hand = -hand
        position += rng.integers(7, 18)
    return branches


def bend_at_cup(vessel: Vessel, ratio: float) -> Vessel:
    """Return the vessel kinked where it climbs out of the cup; nothing moves outside the disc."""
    radius = np.hypot(vessel.points[:, 0], vessel.points[:, 1])
    near_edge = np.exp(-(((radius - ratio) / 0.13) ** 2)) * (1.0 - radius).clip(0.0, 1.0)
    side = np.where(vessel.points[0, 0] - vessel.points[-1, 0] > 0, 1.0, -1.0)
    turn = side * 0.6 * near_edge
    x, y = vessel.points[:, 0], vessel.points[:, 1]
    bent = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return replace(vessel, points=bent)


def paint_vessels(
    vessels: list[Vessel], size: tuple[int, int], centre: tuple[float, float], radius: float, *, mirrored: bool
) -> dict[str, np.ndarray]:
    """Return opacity layers in painting order: vein, artery, and the light reflex along arteries.

    Args:
        vessels: what to paint.
        size: width and height of the picture, pixels.
        centre: the disc's centre in fractions of the picture, (x, y).
        radius: the disc's radius in fractions of the width.
        mirrored: paint a left eye.

    Returns:
        float32 arrays, shape (height, width), in [0, 1].
    """
    scale = radius * size[0] * SUPERSAMPLING
    offset = np.array([centre[0] * size[0], centre[1] * size[1]]) * SUPERSAMPLING
    flip = np.array([-1.0 if mirrored else 1.0, 1.0])
    layers = {}
    for layer, kind, share in (("vein", "vein", 1.0), ("artery", "artery", 1.0), ("reflex", "artery", 0.3)):
        canvas = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
        chosen = [vessel for vessel in vessels if vessel.kind == kind and vessel.widths[0] * share > 0.015]
        draw = ImageDraw.Draw(canvas)
        for vessel in sorted(chosen, key=lambda vessel: vessel.widths[0]):
            _paint_vessel(draw, vessel.points * flip * scale + offset, vessel.widths * scale * share)
        layers[layer] = np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / 255.0
    return layers


def _paint_vessel(draw: ImageDraw.ImageDraw, points: np.ndarray, widths: np.ndarray) -> None:
    """Paint one vessel as a tapering ribbon; thin vessels let more light through."""
    along = np.empty_like(points)
    along[:-1] = points[1:] - points[:-1]
    along[-1] = along[-2]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(along[:, 0], along[:, 1])[:, None]
    half = across * np.maximum(widths, SUPERSAMPLING)[:, None] / 2
    outline = np.concatenate([points + half, (points - half)[::-1]])
    opacity = int(255 * min(1.0, 0.3 + float(widths.mean()) / (6.0 * SUPERSAMPLING)))
    draw.polygon(outline.ravel().tolist(), fill=opacity)
