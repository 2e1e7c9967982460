"""Who trains, who validates, who tests: seeded, by class, and never one group on two sides."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from pipeline.audit import AuditedImage
from pipeline.errors import DatasetError
from pipeline.ingest import Example, Split
from pipeline.recipe import Data


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One image of a run.

    Attributes:
        path: below the source.
        sha256: hex digest of the file's bytes.
        label: its class.
        group: what must stay on one side of a split, such as a patient.
        split: the side it is on.
    """

    path: str
    sha256: str
    label: str
    group: str
    split: Split


@dataclass(frozen=True)
class Manifest:
    """Every image of a run, in path order."""

    rows: tuple[ManifestRow, ...]

    def of(self, split: Split) -> list[ManifestRow]:
        """Return the rows on one side."""
        return [row for row in self.rows if row.split == split]

    @property
    def sha256(self) -> str:
        """Hex digest over every image's content, label, group and split; paths do not count."""
        lines = sorted(f"{row.sha256} {row.label} {row.group} {row.split}" for row in self.rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest as CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(ManifestRow)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest that `write` wrote.

    Raises:
        DatasetError: if it is not one.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return Manifest(tuple(ManifestRow(**row) for row in rows))  # type: ignore[arg-type]
    except (OSError, TypeError, csv.Error) as err:
        raise DatasetError(f"{path} cannot be read as a manifest: {err}") from err


def earlier_sides(runs: Path) -> dict[str, Split]:
    """Return the side that each group had in the latest run that knew it.

    Args:
        runs: a model's folder of runs, whose names sort by time; it may be absent.
    """
    sides: dict[str, Split] = {}
    for path in sorted(runs.glob("*/manifest.csv")):
        sides |= {row.group: row.split for row in read_manifest(path).rows}
    return sides


def split_images(
    images: Sequence[AuditedImage], data: Data, seed: int, earlier: Mapping[str, Split] | None = None
) -> Manifest:
    """Give every image a side.

    Folders named train, val and test are kept as they are. Validation is taken out of the training images when there
    is no val/ folder, and test images likewise when there is no test/ folder. A group keeps the side that it had in
    an earlier run, so that a set can grow without a test patient ever becoming a training patient.

    Args:
        images: readable images.
        data: fractions and the group rule.
        seed: of the choice among new groups.
        earlier: sides of groups in earlier runs.

    Raises:
        DatasetError: if a class would have no image left to train on or to validate with.
    """
    rows = [
        ManifestRow(
            i.example.path, i.sha256, i.example.label, _group(i.example, data.group), i.example.split or "train"
        )
        for i in images
    ]
    if not any(row.split == "test" for row in rows):
        rows = _carve(rows, "test", data.test_fraction, seed, earlier or {})
    if not any(row.split == "val" for row in rows):
        rows = _carve(rows, "val", data.val_fraction, seed + 1, earlier or {})
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))


def split_table(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Return the number of images by split, then label."""
    splits: tuple[Split, ...] = ("train", "val", "test")
    return {split: dict(sorted(Counter(row.label for row in manifest.of(split)).items())) for split in splits}


def groups_on_two_sides(manifest: Manifest) -> list[str]:
    """Return the groups that the set's own folders put on more than one side, sorted."""
    sides: dict[str, set[Split]] = defaultdict(set)
    for row in manifest.rows:
        sides[row.group].add(row.split)
    return sorted(group for group, found in sides.items() if len(found) > 1)


def _group(example: Example, pattern: str | None) -> str:
    if pattern is None:
        return example.path
    found = re.search(pattern, example.name)
    if found is None:
        raise DatasetError(f"data.group: expected {pattern!r} to match every image's name. Received: {example.name!r}")
    return found.group(1) if found.re.groups else found.group(0)


def _carve(
    rows: list[ManifestRow], side: Split, fraction: float, seed: int, earlier: Mapping[str, Split]
) -> list[ManifestRow]:
    """Move whole groups of every class from train to `side` until it holds `fraction` of the class's images."""
    train = [row for row in rows if row.split == "train"]
    sizes = Counter(row.group for row in train)
    label_of = _group_labels(train)
    chosen = {group for group in sizes if earlier.get(group) == side}
    for label in sorted({row.label for row in train}):
        groups = sorted(group for group, found in label_of.items() if found == label)
        if len(groups) < 2:
            raise DatasetError(
                f"class {label}: expected at least two groups, one to train on and one for {side}. "
                f"Received: {len(groups)} ({', '.join(groups) or 'its images share groups with other classes'})"
            )
        wanted = max(1, round(fraction * sum(sizes[group] for group in groups)))
        order = np.random.default_rng([seed, *label.encode()]).permutation(len(groups))
        free = [groups[i] for i in order if groups[i] not in earlier]
        held = sum(sizes[group] for group in groups if group in chosen)
        while free and held < wanted and len(chosen.intersection(groups)) < len(groups) - 1:
            chosen.add(free.pop())
            held = sum(sizes[group] for group in groups if group in chosen)
    return [replace(row, split=side) if row.split == "train" and row.group in chosen else row for row in rows]


def _group_labels(rows: Iterable[ManifestRow]) -> dict[str, str]:
    """Return each group's most frequent label; the first by name when there are several."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.group][row.label] += 1
    return {group: min(c, key=lambda label: (-c[label], label)) for group, c in counts.items()}
