"""Finds images that look the same without being the same: near copies by their hashes, and changed ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.changed_copies import describe_brightness, find_changed_copies
from pipeline.audit.duplicates import near_pairs
from pipeline.audit.quality import FLAT
from pipeline.audit.registration import shrink
from pipeline.audit.thumbnail_spectra import HASH_BYTES, hash_pictures, stack_thumbnails
from pipeline.data.groups import NearPair
from pipeline.data.image_quality import ImageQuality

Stack = tuple[NDArray[np.intp], NDArray[np.uint8]]  # places in a list, and pictures of one side


def find_near_pairs(qualities: Sequence[ImageQuality], max_distance: int, *, deep: bool) -> list[NearPair]:
    """Return the pairs of images that look the same, sorted; copies with the same pixels are no pairs.

    Images without detail all look the same and tell nothing.

    Args:
        qualities: of the images.
        max_distance: bits of their hashes in which near copies differ.
        deep: whether copies that were mirrored, turned or cropped are searched too; the work grows with the square of
            the number of images.
    """
    shown = [i for i, quality in enumerate(qualities) if quality.contrast >= FLAT]
    if not shown:
        return []
    stacks = _stack_by_side([qualities[i].thumbnail for i in shown])
    hashes = np.empty((len(shown), HASH_BYTES), np.uint8)
    for places, pictures in stacks:
        hashes[places] = hash_pictures(pictures)
    found: dict[tuple[int, int], NearPair] = {}
    brightness = [float(np.frombuffer(qualities[i].thumbnail, np.uint8).mean()) for i in shown]
    for pair in near_pairs([digest.tobytes() for digest in hashes], max_distance):
        kind = describe_brightness(brightness[pair.first], brightness[pair.second])
        found[pair.first, pair.second] = NearPair(pair.first, pair.second, pair.distance, kind)
    for first, second, kind in _find_changed(stacks) if deep else ():
        distance = int(np.bitwise_count(hashes[first] ^ hashes[second]).sum())
        found.setdefault((first, second), NearPair(first, second, distance, kind))
    pairs = [NearPair(shown[p.first], shown[p.second], p.distance, p.kind) for _, p in sorted(found.items())]
    return [p for p in pairs if qualities[p.first].pixels_sha256 != qualities[p.second].pixels_sha256]


def _stack_by_side(thumbnails: Sequence[bytes]) -> list[Stack]:
    """Return thumbnails as arrays, the smallest first, with their places in the list."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, thumbnail in enumerate(thumbnails):
        by_size[len(thumbnail)].append(i)
    return [
        (np.array(places), stack_thumbnails([thumbnails[i] for i in places])) for _, places in sorted(by_size.items())
    ]


def _find_changed(stacks: Sequence[Stack]) -> Iterator[tuple[int, int, str]]:
    """Yield changed copies among pictures of each side, and between small pictures and the larger ones made as small.

    Args:
        stacks: places and pictures, as `_stack_by_side` gives them.
    """
    for number, (places, pictures) in enumerate(stacks):
        larger = stacks[number + 1 :]
        side = pictures.shape[1]
        shrunk = [np.round(shrink(more.astype(np.float32), side)).astype(np.uint8) for _, more in larger]
        everywhere = np.concatenate([places, *(more for more, _ in larger)])
        for copy in find_changed_copies(np.concatenate([pictures, *shrunk])):
            if copy.first < len(places):  # the others are found in their own size
                first, second = sorted((int(everywhere[copy.first]), int(everywhere[copy.second])))
                yield first, second, copy.kind
