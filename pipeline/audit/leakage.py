"""Copies: of one image in the test set and in training, under two labels, or merely twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from pipeline.audit.findings import Finding, counted
from pipeline.data.groups import NearPair, group_of
from pipeline.data.ingest import Example
from pipeline.recipe.data_settings import NEAR_DUPLICATES, Data

Entries = list[tuple[str, ...]]

_ALLOW_LEAKAGE = "data.allow_leakage"
_COPIES = {
    "two_labels": "filed under two labels",
    "leaked_copies": "in the test set and, the same, outside it",
    "copies_in_validation": "in train and, the same, in val",
    "copies": "there more than once",
}
_NEAR_COPIES = {
    "near_leaks": "look the same on two sides of the split; the numbers may be flattered",
    "near_two_labels": "look the same under two labels",
    "near_copies": "look the same",
}
_TORN_GROUPS = {
    "groups_across_splits": "in the test set and outside it: the test figures are flattered",
    "groups_in_validation": "in train and in val: the validation figures are flattered",
}


def find_copies(examples: Sequence[Example], pixels_sha256: Sequence[str], data: Data) -> list[Finding]:
    """Return findings on images whose pixels are the same, whatever the format of their files.

    Copies that the set's own folders put into test and elsewhere are an error unless the recipe allows them; so is
    one image under two labels, always.
    """
    alike: dict[str, list[Example]] = defaultdict(list)
    for example, digest in zip(examples, pixels_sha256, strict=True):
        alike[digest].append(example)
    found: dict[str, Entries] = {code: [] for code in _COPIES}
    for copies in alike.values():
        for code in _kinds_of(copies):
            found[code].append(tuple(copy.path for copy in copies))
    errors = {"two_labels"} if data.allow_leakage else {"two_labels", "leaked_copies"}
    return [
        Finding(
            "error" if code in errors else "warning",
            code,
            f"{counted(len(found[code]), 'image', 'is')} {words}",
            tuple(found[code]),
            allowed_by=_ALLOW_LEAKAGE if code == "leaked_copies" and data.allow_leakage else "",
        )
        for code, words in _COPIES.items()
        if found[code]
    ]


def find_near_copies(examples: Sequence[Example], pairs: Iterable[NearPair]) -> list[Finding]:
    """Return warnings on images that look the same without being the same."""
    found: dict[str, list[NearPair]] = {code: [] for code in _NEAR_COPIES}
    for pair in pairs:
        one, other = examples[pair.first], examples[pair.second]
        torn = one.label != other.label
        code = "near_leaks" if one.split != other.split else "near_two_labels" if torn else "near_copies"
        found[code].append(pair)
    return [
        Finding(
            "warning",
            code,
            f"{counted(len(found[code]), 'pair')} of images {words}{_count_kinds(found[code])}",
            tuple((examples[pair.first].path, examples[pair.second].path) for pair in found[code]),
            kinds=tuple(pair.kind for pair in found[code]),
        )
        for code, words in _NEAR_COPIES.items()
        if found[code]
    ]


def _count_kinds(pairs: Iterable[NearPair]) -> str:
    """Return how many copies were mirrored, cropped and so on."""
    counts = Counter(pair.kind for pair in pairs if pair.kind).most_common()
    return f": {', '.join(f'{count} {kind}' for kind, count in counts)}" if counts else ""


def find_split_groups(examples: Sequence[Example], data: Data) -> list[Finding]:
    """Return findings on groups that the set's own folders put on more than one side.

    Groups in test and elsewhere are an error unless the recipe allows them, as copies are; in train and val a warning.
    """
    if data.group == NEAR_DUPLICATES:  # already told as near copies
        return []
    members: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        members[group_of(example, data)].append(example)
    found: dict[str, Entries] = {code: [] for code in _TORN_GROUPS}
    for _, images in sorted(members.items()):
        sides = {image.split for image in images}
        if len(sides) > 1:
            code = "groups_across_splits" if "test" in sides else "groups_in_validation"
            found[code].append(tuple(image.path for image in images))
    return [
        Finding(
            "error" if code == "groups_across_splits" and not data.allow_leakage else "warning",
            code,
            f"{counted(len(found[code]), 'group', 'is')} {words}",
            tuple(found[code]),
            allowed_by=_ALLOW_LEAKAGE if code == "groups_across_splits" and data.allow_leakage else "",
        )
        for code, words in _TORN_GROUPS.items()
        if found[code]
    ]


def _kinds_of(copies: Sequence[Example]) -> list[str]:
    """Return findings on images whose pixels are the same."""
    if len(copies) < 2:
        return []
    sides = {copy.split for copy in copies}
    kinds = ["two_labels"] if len({copy.label for copy in copies}) > 1 else []
    if len(sides) > 1:
        kinds.append("leaked_copies" if "test" in sides else "copies_in_validation")
    return kinds or ["copies"]
