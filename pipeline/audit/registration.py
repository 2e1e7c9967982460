"""Aligns pairs of small grey pictures by scale and shift, and compares them block by block.

The model of a pair is b(x, y) = gain * a(sx * x + tx, sy * y + ty) + bias: b shows a window of a, brighter or darker.
Gauss-Newton on all pairs of a batch at once, from coarse to fine; pairs that differ at a coarse level stop there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_BATCH = 256  # pairs at a time: about 100 MB at 64 pixels
_COARSE = 16  # pixels a side at the coarsest level
_STEPS = 4  # of Gauss-Newton, at each level
_LONGEST_STEP = 0.04  # of a side
_SMALLEST, _LARGEST = 0.75, 1.04  # sides of a window, in sides of the picture
_OUTSIDE = 0.02  # of a side that a window may reach beyond the picture
_BLOCKS = 4  # blocks along a side
# Lowest correlations of the worst block, of the lower quartile of blocks, and of all blocks together. Of 200 copies of
# each kind of the synthetic eyes the worst have 0.82, 0.88 and 0.959, of pairs of different eyes the best have 0.29,
# 0.72 and 0.924 (benchmarks/copies.py).
_WORST_BLOCK, _LOWER_QUARTILE, _ALL_BLOCKS = 0.6, 0.85, 0.955
_SMALL, _ALL_BLOCKS_OF_SMALL = 32, 0.98  # pictures of few pixels, such as clothes at 28 x 28, agree by chance
_COARSE_CORRELATION = 0.85  # of whole pictures at a coarse level; 0.95 and more in copies
_DETAIL = 4.0  # variance of grey levels in a block with detail, at least
_DETAIL_SHARE = 0.02  # of the picture's mean variance in blocks
_FEWEST_BLOCKS = 4  # with detail, to tell anything


@dataclass(frozen=True)
class Alignment:
    """The alignments of pairs.

    Attributes:
        same: whether each pair shows the same, shape (pairs,).
        windows: of the first picture that the second shows, in sides: (left, right, upper, lower), shape (pairs, 4).
    """

    same: NDArray[np.bool_]
    windows: Floats


def align(first: Floats, second: Floats, windows: Floats) -> Alignment:
    """Align pairs of pictures and tell which show the same.

    Args:
        first: grey levels, shape (pairs, side, side); the side is a power of 2.
        second: as `first`.
        windows: where to begin, as Alignment has them.
    """
    parts = [
        _align_batch(first[start : start + _BATCH], second[start : start + _BATCH], windows[start : start + _BATCH])
        for start in range(0, len(first), _BATCH)
    ]
    if not parts:
        return Alignment(np.zeros(0, np.bool_), np.zeros((0, 4), np.float32))
    return Alignment(np.concatenate([p.same for p in parts]), np.concatenate([p.windows for p in parts]))


def shrink(pictures: Floats, side: int) -> Floats:
    """Return pictures of a smaller side, by the means of blocks."""
    factor = pictures.shape[1] // side
    if factor == 1:
        return pictures
    shape = (len(pictures), side, factor, side, factor)
    return pictures.reshape(shape).mean((2, 4))


def _align_batch(first: Floats, second: Floats, windows: Floats) -> Alignment:
    side = first.shape[1]
    windows = windows.astype(np.float32, copy=True)
    alive = np.arange(len(first))
    level = _COARSE
    while level <= side and len(alive):
        one, other = shrink(first[alive], level), shrink(second[alive], level)
        windows[alive], warped = _refine(one, other, windows[alive])
        if level == side:
            alive = alive[_same_blocks(warped, other) & _is_within(windows[alive])]
        else:
            alive = alive[_correlation(warped, other) >= _COARSE_CORRELATION]
        level *= 2
    same = np.zeros(len(first), np.bool_)
    same[alive] = True
    return Alignment(same, windows)


def _refine(first: Floats, second: Floats, windows: Floats) -> tuple[Floats, Floats]:
    """Return better windows, and what of the first pictures they show."""
    side = first.shape[1]
    centres = ((np.arange(side) + 0.5) / side).astype(np.float32)
    for _ in range(_STEPS):
        warped = _warp(first, windows)
        down, right = (slope * side for slope in np.gradient(warped, axis=(1, 2)))
        right /= (windows[:, 1] - windows[:, 0])[:, None, None]
        down /= (windows[:, 3] - windows[:, 2])[:, None, None]
        along, across = centres[None, None, :], centres[None, :, None]
        # Derivatives by gain and bias, and by the window's left, right, upper and lower edge.
        terms = [warped, np.ones_like(warped), right * (1 - along), right * along, down * (1 - across), down * across]
        design = np.stack(terms, axis=1).reshape(len(first), len(terms), -1)
        normal = (design @ design.transpose(0, 2, 1)).astype(np.float64) + 1e-3 * np.eye(len(terms))
        target = (design @ second.reshape(len(second), -1, 1)).astype(np.float64)
        solved = np.linalg.solve(normal, target)[:, :, 0]
        gain = np.where(np.abs(solved[:, :1]) < 0.1, 1.0, solved[:, :1])
        step = np.clip(solved[:, 2:] / gain, -_LONGEST_STEP, _LONGEST_STEP)
        windows = np.clip(windows + step, [-0.1, 0.6, -0.1, 0.6], [0.4, 1.1, 0.4, 1.1]).astype(np.float32)
    return windows, _warp(first, windows)


def _warp(pictures: Floats, windows: Floats) -> Floats:
    """Return the windows of the pictures, as large as these, by linear interpolation."""
    side = pictures.shape[1]
    down, along = (sample_matrix(windows[:, edge], windows[:, edge + 1], side) for edge in (2, 0))
    warped = down @ pictures @ along.transpose(0, 2, 1)
    return warped.astype(np.float32, copy=False)


def sample_matrix(low: Floats, high: Floats, side: int) -> Floats:
    """Return the matrices that take `side` samples between two positions of a row of `side` pixels.

    Args:
        low: where the sampled part begins, 0 to 1, shape (count,).
        high: where it ends.
        side: pixels.
    """
    centres = (np.arange(side) + 0.5) / side
    positions = np.clip((low[:, None] + centres * (high - low)[:, None]) * side - 0.5, 0, side - 1)
    return np.maximum(0, 1 - np.abs(positions[:, :, None] - np.arange(side))).astype(np.float32)


def _correlation(one: Floats, other: Floats) -> NDArray[np.floating]:
    a, b = (x.reshape(len(x), -1) - x.mean((1, 2))[:, None] for x in (one, other))
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1) + 1e-6)


def _same_blocks(one: Floats, other: Floats) -> NDArray[np.bool_]:
    """Return whether two pictures agree in every block with detail: what all pictures of a set share is not enough."""
    a, b = _blocks(one), _blocks(other)
    variances = (a * a).mean(2), (b * b).mean(2)
    products = (a * b).mean(2)
    agreement = products / np.sqrt(variances[0] * variances[1] + 1e-6)
    whole = products.sum(1) / np.sqrt(variances[0].sum(1) * variances[1].sum(1) + 1e-6)
    most = np.maximum(*variances)
    detailed = most > np.maximum(_DETAIL, _DETAIL_SHARE * most.mean(1, keepdims=True))
    worst = np.where(detailed, agreement, 1.0).min(1)
    ranked = np.sort(np.where(detailed, agreement, np.inf), axis=1)
    count = detailed.sum(1)
    quartile = ranked[np.arange(len(ranked)), count // 4]
    least = _ALL_BLOCKS_OF_SMALL if one.shape[1] <= _SMALL else _ALL_BLOCKS
    agrees = (worst >= _WORST_BLOCK) & (quartile >= _LOWER_QUARTILE) & (whole >= least)
    return agrees & (count >= _FEWEST_BLOCKS)


def _blocks(pictures: Floats) -> Floats:
    """Return the blocks less their means, shape (pictures, blocks, pixels)."""
    count, side = len(pictures), pictures.shape[1] // _BLOCKS
    cut = pictures.reshape(count, _BLOCKS, side, _BLOCKS, side).transpose(0, 1, 3, 2, 4).reshape(count, -1, side * side)
    return cut - cut.mean(2, keepdims=True)


def _is_within(windows: Floats) -> NDArray[np.bool_]:
    """Return whether windows are parts of the picture, large enough for a crop."""
    wide, high = windows[:, 1] - windows[:, 0], windows[:, 3] - windows[:, 2]
    edges = (windows[:, [0, 2]].min(1) >= -_OUTSIDE) & (windows[:, [1, 3]].max(1) <= 1 + _OUTSIDE)
    sizes = (np.minimum(wide, high) >= _SMALLEST) & (np.maximum(wide, high) <= _LARGEST)
    return edges & sizes
