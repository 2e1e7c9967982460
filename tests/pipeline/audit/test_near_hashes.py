"""pipeline/audit/near_copies.py, its hashes: the pairs that comparing every image with every other would find."""

import itertools

import numpy as np
import pytest

from pipeline.audit.near_copies import near_pairs
from pipeline.data.groups import NearPair, join


def flip(fingerprint: bytes, bits: int, *, seed: int = 0) -> bytes:
    """The same hash with some bits changed."""
    unpacked = np.unpackbits(np.frombuffer(fingerprint, np.uint8))
    unpacked[np.random.default_rng(seed).permutation(unpacked.size)[:bits]] ^= 1
    return np.packbits(unpacked).tobytes()


@pytest.mark.parametrize("max_distance", [0, 1, 7, 16, 40])
def test_finds_what_comparing_all_pairs_finds(max_distance: int) -> None:
    """No pair within the distance is missed and none beyond it is found, near the limit above all."""
    rng = np.random.default_rng(max_distance)
    seeds = [rng.bytes(32) for _ in range(60)]
    hashes = seeds + [flip(seed, int(rng.integers(1, 60)), seed=i) for i, seed in enumerate(seeds * 3)]

    expected = []
    for (i, one), (j, other) in itertools.combinations(enumerate(hashes), 2):
        distance = int(np.bitwise_count(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum())
        if distance <= max_distance:
            expected.append(NearPair(i, j, distance))

    assert expected == near_pairs(hashes, max_distance)


def test_equal_hashes_are_chained() -> None:
    """A thousand equal images make 999 pairs, not half a million, and still belong together."""
    hashes = [bytes(32)] * 1000 + [flip(bytes(32), 3)]

    pairs = near_pairs(hashes, 16)

    assert 1000 == len(pairs)
    assert [0] * 1001 == join(1001, ((pair.first, pair.second) for pair in pairs))


def test_work_grows_far_slower_than_the_number_of_pairs() -> None:
    """Twenty thousand images, two hundred million pairs, take a moment."""
    rng = np.random.default_rng(0)
    hashes = [rng.bytes(32) for _ in range(20_000)]
    hashes[777] = flip(hashes[19_999], 16)

    assert [NearPair(777, 19_999, 16)] == near_pairs(hashes, 16)


@pytest.mark.parametrize("hashes", [[], [bytes(32)]], ids=["none", "one"])
def test_nothing_to_compare(hashes: list[bytes]) -> None:
    """An empty set and a single image have no pairs."""
    assert [] == near_pairs(hashes, 16)


def test_links_join_over_any_number_of_steps() -> None:
    """Everything that links lead to has the smallest item's number."""
    assert [0, 1, 0, 1, 0, 5] == join(6, [(4, 2), (3, 1), (2, 0)])
