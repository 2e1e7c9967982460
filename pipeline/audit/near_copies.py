"""Finds images that look the same without being the same: near copies by their hashes, and changed ones.

Two hashes that differ in at most d bits are equal in at least one of d + 1 bands of bits (pigeonhole; multi-index
hashing, Norouzi, Punjani and Fleet 2012, arXiv:1307.2982). So only images that share a whole band are compared. The
bits are shuffled first, the same way every time: neighbouring bits of a perceptual hash agree too often in images of
one kind, and a band of them would hold the whole set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.changed_copies import describe_brightness, find_changed_copies
from pipeline.audit.kept.copies import KeptCopies, Search
from pipeline.audit.quality import FLAT
from pipeline.audit.registration import shrink
from pipeline.audit.thumbnail_spectra import HASH_BYTES, Descriptors, hash_pictures, stack_thumbnails
from pipeline.data.groups import NearPair
from pipeline.data.image_quality import ImageQuality
from pipeline.data.map_batches import map_batches
from pipeline.progress import note

_BLOCK = 1 << 16  # pairs compared at a time: bounds memory when very many images share a band
_HASHED = 2048  # thumbnails at a time
Stack = tuple[NDArray[np.intp], NDArray[np.uint8]]  # places in a list, and pictures of one side


def find_near_pairs(
    qualities: Sequence[ImageQuality], max_distance: int, *, deep: bool, kept: KeptCopies | None = None
) -> list[NearPair]:
    """Return the pairs of images that look the same, sorted; copies with the same pixels are no pairs.

    Images without detail all look the same and tell nothing.

    Args:
        qualities: of the images.
        max_distance: bits of their hashes in which near copies differ.
        deep: whether copies that were mirrored, turned or cropped are searched too; the work grows with the square of
            the number of images.
        kept: earlier searches for changed copies, whose pictures are compared with new ones alone; gets this one.
    """
    shown = [i for i, quality in enumerate(qualities) if quality.contrast >= FLAT]
    if not shown:
        return []
    thumbnails = [qualities[i].thumbnail for i in shown]
    hashes = _hash_thumbnails(thumbnails)
    found: dict[tuple[int, int], NearPair] = {}
    brightness = [float(np.frombuffer(qualities[i].thumbnail, np.uint8).mean()) for i in shown]
    for pair in near_pairs([digest.tobytes() for digest in hashes], max_distance):
        kind = describe_brightness(brightness[pair.first], brightness[pair.second])
        found[pair.first, pair.second] = NearPair(pair.first, pair.second, pair.distance, kind)
    keys = [qualities[i].pixels_sha256 for i in shown]
    for first, second, kind in _find_changed(_stack_by_side(thumbnails), keys, kept) if deep else ():
        distance = int(np.bitwise_count(hashes[first] ^ hashes[second]).sum())
        found.setdefault((first, second), NearPair(first, second, distance, kind))
    pairs = [NearPair(shown[p.first], shown[p.second], p.distance, p.kind) for _, p in sorted(found.items())]
    return [p for p in pairs if qualities[p.first].pixels_sha256 != qualities[p.second].pixels_sha256]


def _hash_thumbnails(thumbnails: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return perceptual hashes, shape (thumbnails, HASH_BYTES); few thumbnails are copied at a time."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, thumbnail in enumerate(thumbnails):
        by_size[len(thumbnail)].append(i)
    hashes = np.empty((len(thumbnails), HASH_BYTES), np.uint8)
    for places in by_size.values():
        for part in map_batches(list, places, size=_HASHED):
            hashes[part] = hash_pictures(stack_thumbnails([thumbnails[i] for i in part]))
    return hashes


def _stack_by_side(thumbnails: Sequence[bytes]) -> list[Stack]:
    """Return thumbnails as arrays, the smallest first, with their places in the list."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, thumbnail in enumerate(thumbnails):
        by_size[len(thumbnail)].append(i)
    return [
        (np.array(places), stack_thumbnails([thumbnails[i] for i in places])) for _, places in sorted(by_size.items())
    ]


def _find_changed(
    stacks: Sequence[Stack], keys: Sequence[str], kept: KeptCopies | None
) -> Iterator[tuple[int, int, str]]:
    """Yield changed copies among pictures of each side, and between small pictures and the larger ones made as small.

    Args:
        stacks: places and pictures, as `_stack_by_side` gives them.
        keys: of the pictures by place, equal for equal pictures.
        kept: earlier searches.
    """
    before = kept.find(keys) if kept else Search()
    pairs: dict[tuple[str, str], str] = {}
    bases, counts, num_known = {}, {}, 0
    for number, (places, pictures) in enumerate(stacks):
        side, larger = pictures.shape[1], stacks[number + 1 :]
        shrunk = [np.round(shrink(more.astype(np.float32), side)).astype(np.uint8) for _, more in larger]
        everywhere = np.concatenate([places, *(more for more, _ in larger)])
        basis = before.basis(side, len(everywhere))
        known = np.array([basis is not None and keys[i] in before.keys for i in everywhere], np.bool_)
        order = np.argsort(~known, kind="stable")
        ordered = np.concatenate([pictures, *shrunk])[order]
        own = np.isin(everywhere, places)[order]  # pairs of two larger ones are found in their own size
        descriptors = Descriptors.of(ordered) if basis is None else Descriptors(ordered, basis)
        for copy in find_changed_copies(descriptors, int(known.sum())):
            if own[copy.first] or own[copy.second]:
                one, other = (keys[everywhere[order[i]]] for i in (copy.first, copy.second))
                pairs.setdefault((min(one, other), max(one, other)), copy.kind)
        bases[side] = descriptors.basis
        counts[side] = len(everywhere) if basis is None else before.counts[side]
        num_known += int(known[: len(places)].sum())
    present = frozenset(keys)
    old = {pair: kind for pair, kind in before.pairs.items() if present.issuperset(pair)}
    pairs = {**pairs, **old}
    if kept:
        note(f"Copies: {len(keys)} pictures, {num_known} of them compared with each other before")
        if present != before.keys or any(basis is not before.bases.get(side) for side, basis in bases.items()):
            kept.add(Search(present, pairs, bases, counts))
    yield from _places_of(pairs, keys)


def _places_of(pairs: Mapping[tuple[str, str], str], keys: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield pairs of places, the first before the second, of pairs of keys; equal pictures are not all paired."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    for (one, other), kind in pairs.items():
        if one == other:
            continue
        (first, *equal), seconds = places[one], places[other]
        for pair in [*((first, second) for second in seconds), *((place, seconds[0]) for place in equal)]:
            yield min(pair), max(pair), kind


def near_pairs(fingerprints: Sequence[bytes], max_distance: int) -> list[NearPair]:
    """Return the pairs whose hashes differ in at most `max_distance` bits, sorted.

    Images with one and the same hash are chained, not paired each with each: a thousand equal images make 999 pairs.

    Args:
        fingerprints: hashes of one length, a multiple of 8 bytes.
        max_distance: bits, at least 0.
    """
    if not fingerprints:
        return []
    hashes = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(len(fingerprints), -1)
    unique, position = np.unique(hashes, axis=0, return_inverse=True)
    order = np.argsort(position.ravel(), kind="stable")
    first_of = order[np.searchsorted(position.ravel()[order], np.arange(len(unique)))]
    found = {(int(first_of[a]), int(first_of[b])): distance for a, b, distance in _close(unique, max_distance)}
    for one, other in pairwise(order):
        if position.ravel()[one] == position.ravel()[other]:
            found[int(one), int(other)] = 0
    return sorted(
        (NearPair(min(pair), max(pair), distance) for pair, distance in found.items()),
        key=lambda pair: (pair.first, pair.second),
    )


def _close(hashes: NDArray[np.uint8], max_distance: int) -> Iterator[tuple[int, int, int]]:
    """Yield (row, row, distance) of different hashes at most `max_distance` apart; a pair may come twice."""
    words = hashes.view(np.uint64)
    for one, other in _sharing_a_band(hashes, max_distance + 1):
        for start in range(0, len(one), _BLOCK):
            a, b = one[start : start + _BLOCK], other[start : start + _BLOCK]
            distances = np.bitwise_count(words[a] ^ words[b]).sum(axis=1, dtype=np.int64)
            for found in np.flatnonzero(distances <= max_distance):
                yield int(a[found]), int(b[found]), int(distances[found])


def _sharing_a_band(hashes: NDArray[np.uint8], num_bands: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield pairs of rows that agree in a band of bits, as two arrays, band by band."""
    bits = np.unpackbits(hashes, axis=1)
    shuffled = bits[:, np.random.default_rng(0).permutation(bits.shape[1])]
    for band in np.array_split(shuffled, num_bands, axis=1):
        packed = np.packbits(band, axis=1)
        keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        # Equal keys are neighbours now: compare each with the next, the next but one, ... until none is equal.
        here, step = np.arange(len(keys)), 1
        while len(here := here[here + step < len(keys)]):
            here = here[keys[here] == keys[here + step]]
            yield order[here], order[here + step]
            step += 1
