"""Groups images that must stay on one side of a split: patients by a rule or a column, and copies of one image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.data.ingest import Example
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import NEAR_DUPLICATES, Data


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two images that look the same.

    Attributes:
        first: index of the one.
        second: index of the other, greater.
        distance: bits of their hashes that differ.
        kind: how the one was changed, such as "mirrored"; "" where it was resized or compressed again.
    """

    first: int
    second: int
    distance: int
    kind: str = ""


def is_grouped(examples: Sequence[Example], data: Data) -> bool:
    """Return whether anything but the image itself says what belongs together."""
    return data.group is not None or any(example.group is not None for example in examples)


def group_of(example: Example, data: Data) -> str:
    """Return an image's group by the recipe's rule, the table's column, or its own path.

    Raises:
        DatasetError: if the rule does not match.
    """
    if data.group is None:
        return example.path if example.group is None else example.group
    if data.group == NEAR_DUPLICATES:
        return example.path
    found = re.search(data.group, example.name)
    if found is None:
        raise DatasetError(
            f"data.group: expected {data.group!r} to match every image's name. Received: {example.name!r}"
        )
    return found.group(1) if found.re.groups else found.group(0)


def group_images(
    examples: Sequence[Example], data: Data, pixels_sha256: Sequence[str], near: Iterable[NearPair] = ()
) -> list[str]:
    """Return every image's group; groups that share an image are one, named as the first of them by name.

    Copies of one image stay together whatever the rule says: a patient photographed once and filed twice would test
    what it trained.

    Args:
        examples: the images.
        data: the group rule.
        pixels_sha256: of each image's pixels.
        near: images that look the same; they join groups only when the rule is near-duplicates.
    """
    named = [group_of(example, data) for example in examples]
    names = sorted(set(named))
    number = {name: i for i, name in enumerate(names)}
    links = [(pair.first, pair.second) for pair in near] if data.group == NEAR_DUPLICATES else []
    links += _equal(pixels_sha256)
    roots = join(len(names), ((number[named[one]], number[named[other]]) for one, other in links))
    return [names[roots[number[name]]] for name in named]


def join(size: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of `size` items the smallest item that links lead to, over any number of steps."""
    parent = list(range(size))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(item) for item in range(size)]


def _equal(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Return links between the positions of equal keys, chained."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        positions[key].append(position)
    return [pair for found in positions.values() for pair in pairwise(found)]
