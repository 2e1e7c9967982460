"""Defines a finding of an audit: one kind of fault, with the images that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.run_warnings import Weight

Level = Literal["error", "warning"]
_NAMED = 3  # images or pairs named in one line
_MEMBERS = 4  # images named of one group
_GROUPS = frozenset({"groups_across_splits", "groups_in_validation", "no_group_rule"})
# Codes that say more than a picture's quality does.
_WEIGHTS = {
    "leaked_copies": Weight.FIGURES,
    "groups_across_splits": Weight.FIGURES,
    "near_leaks": Weight.FIGURES,
    "allowed_shortcuts": Weight.FIGURES,
    "shortcuts": Weight.LEAKAGE,
    "picture_shortcuts": Weight.LEAKAGE,
    "two_labels": Weight.LEAKAGE,
    "near_two_labels": Weight.LEAKAGE,
    "copies_in_validation": Weight.LEAKAGE,
    "groups_in_validation": Weight.LEAKAGE,
    "near_copies": Weight.LEAKAGE,
    "copies": Weight.LEAKAGE,
    "no_group_rule": Weight.LEAKAGE,
    "imbalance": Weight.EVALUATION,
    "missing_class": Weight.EVALUATION,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of trouble.

    Attributes:
        level: an error stops a run before training.
        code: stable name.
        message: the fault, with a count.
        images: paths below the source; several in one entry belong together, such as an image and its copy.
        allowed_by: the setting without which this warning is an error, such as `data.allow_leakage`; "" for others. A
            version that is trained all the same does not become live by itself.
        kinds: of near copies, how each pair of `images` differs, such as "mirrored"; "" without a word for it.
    """

    level: Level
    code: str
    message: str
    images: tuple[tuple[str, ...], ...] = ()
    allowed_by: str = ""
    kinds: tuple[str, ...] = ()

    @property
    def weight(self) -> Weight:
        """Its place among a run's warnings."""
        return _WEIGHTS.get(self.code, Weight.IMAGES)

    @property
    def line(self) -> str:
        """The message with the first few images."""
        named = ["; ".join(map(self.describe_entry, self.images[:_NAMED]))] if self.images else []
        more = [f"{len(self.images) - _NAMED} more"] if len(self.images) > _NAMED else []
        return self.message + (f" ({' and '.join(named + more)})" if named else "")

    def describe_entry(self, entry: Sequence[str]) -> str:
        """Return the images of one entry: copies are joined by `=`, members of a group are cut with a count."""
        if self.code not in _GROUPS:
            return " = ".join(entry)
        more = [f"{len(entry) - _MEMBERS} more"] if len(entry) > _MEMBERS else []
        return " and ".join([", ".join(entry[:_MEMBERS]), *more])


def counted(count: int, noun: str, verb: str = "") -> str:
    """Return "1 image is" or "3 images are"."""
    plural = {"is": "are", "has": "have", "looks": "look", "shows": "show"}.get(verb, verb)
    return f"{count} {noun}{'' if count == 1 else 's'} {verb if count == 1 else plural}".strip()


def each(paths: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return images that have nothing to do with one another, as a finding holds them."""
    return tuple((path,) for path in paths)


def describe_allowed(findings: Sequence[Finding]) -> list[str]:
    """Return the errors that a setting turned into warnings, in words without names of files."""
    return [
        f"an error of the audit was allowed by {finding.allowed_by}: {finding.message}"
        for finding in findings
        if finding.allowed_by
    ]
