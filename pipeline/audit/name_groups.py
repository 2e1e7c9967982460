"""Finds file names that share a prefix, such as P001_L and P001_R, and the group rule that keeps them together."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.data.groups import group_of
from pipeline.data.ingest import Example
from pipeline.recipe.data_settings import Data

_LEAST_SHARED = 0.5  # share of the images whose group has another image
_LEAST_GROUPS = 3
# Words that count subjects; a number after any other word may count cameras, days or classes.
_SUBJECT = re.compile(
    r"((?:patient|participant|person|subject|subj|sub|case|pat|pt|p|id)[_-]?)\d+(?=[_\-./ ])", re.IGNORECASE
)
_SIDES = ("OD OS", "LE RE", "left right", "L R")


@dataclass(frozen=True, slots=True)
class NameRule:
    """A group rule that file names suggest.

    Attributes:
        pattern: for `data.group`; it matches every name of the set.
        groups: paths of the images of each group that has two or more.
        num_torn: groups that the set's folders put on more than one side of the split.
    """

    pattern: str
    groups: tuple[tuple[str, ...], ...]
    num_torn: int


def suggest_rule(examples: Sequence[Example]) -> NameRule | None:
    """Return the first rule that puts at least half of the images into groups of two or more; None if none does.

    There must be more groups than class folders: a prefix such as `cat_` is no group.
    """
    folders = len({(example.label, example.split) for example in examples})
    for prefix in _prefixes([example.name for example in examples]):
        everywhere = all(re.match(prefix, example.name) for example in examples)
        rule = _apply(f"^({prefix})" if everywhere else f"^({prefix}|.+)", examples)
        images = sum(len(paths) for paths in rule.groups)
        if len(rule.groups) >= max(_LEAST_GROUPS, folders + 1) and images >= _LEAST_SHARED * len(examples):
            return rule
    return None


def _prefixes(names: Sequence[str]) -> Iterator[str]:
    """Yield patterns of prefixes: a counted subject, then all that is before one of two sides."""
    words = Counter(found[1] for name in names if (found := _SUBJECT.match(name)))
    yield from (rf"{re.escape(word)}\d+" for word, _ in words.most_common())
    for pair in _SIDES:
        for sides in dict.fromkeys((pair, pair.lower(), pair.upper(), pair.title())):
            ends = [rf"[_-]{side}(?![A-Za-z0-9])" for side in sides.split()]
            if all(any(re.search(end, name) for name in names) for end in ends):
                yield rf".+(?=[_-](?:{sides.replace(' ', '|')})(?![A-Za-z0-9]))"


def _apply(pattern: str, examples: Sequence[Example]) -> NameRule:
    members: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        members[group_of(example, Data(group=pattern))].append(example)
    shared = [found for _, found in sorted(members.items()) if len(found) > 1]
    return NameRule(
        pattern,
        tuple(tuple(example.path for example in found) for found in shared),
        sum(len({example.split for example in found}) > 1 for found in shared),
    )
