"""Splits images into train, val and test: seeded, stratified by class, each group on one side."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.files.regular import read_regular
from pipeline.data.groups import NearPair, group_images
from pipeline.data.image_quality import AuditedImage
from pipeline.data.ingest import Example
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data, Split

_TRIES = 100
# The side that wins when one group had several: a patient whom a model was tested on never trains one.
_STRICTEST: tuple[Split, ...] = ("test", "val", "train")


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One image of a run.

    Attributes:
        path: below the source.
        sha256: hex digest of the file's bytes.
        label: its class.
        group: stays on one side of a split, such as a patient.
        split: the side it is on.
    """

    path: str
    sha256: str
    label: str
    group: str
    split: Split


@dataclass(frozen=True)
class Manifest:
    """Every image of a run, in path order; without val rows, the test images validate."""

    rows: tuple[ManifestRow, ...]

    @property
    def validates_on_test(self) -> bool:
        """True if the test images are the validation images too, so that they are no honest test."""
        return not any(row.split == "val" for row in self.rows)

    def of(self, split: Split) -> list[ManifestRow]:
        """Return the rows on one side."""
        side = "test" if split == "val" and self.validates_on_test else split
        return [row for row in self.rows if row.split == side]

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
        with io.StringIO(read_regular(path).decode("utf-8"), newline="") as file:
            rows = list(csv.DictReader(file))
        return Manifest(tuple(ManifestRow(**row) for row in rows))  # type: ignore[arg-type]
    except (OSError, TypeError, csv.Error) as err:
        raise DatasetError(f"{path} cannot be read as a manifest: {err}") from err


def earlier_sides(runs: Path) -> dict[str, Split]:
    """Return the side that each group, and each image by its sha256, had in the latest run that knew it.

    Args:
        runs: a model's folder of runs, whose names sort by time; it may be absent.
    """
    sides: dict[str, Split] = {}
    for path in sorted(runs.glob("*/manifest.csv")):
        rows = read_manifest(path).rows
        sides |= {row.group: row.split for row in rows}
        sides |= {row.sha256: row.split for row in rows}
    return sides


def split_images(
    images: Sequence[AuditedImage],
    data: Data,
    seed: int,
    *,
    earlier: Mapping[str, Split] | None = None,
    near: Sequence[NearPair] = (),
) -> Manifest:
    """Give every image a side.

    Folders named train, val and test are kept as they are. Validation is taken out of the training images when there
    is no val/ folder, and test images likewise when there is no test/ folder. A group keeps the side that it, or one
    of its images under whatever name, had in an earlier run, so that a set can grow without a test patient ever
    becoming a training patient.

    Args:
        images: readable images.
        data: fractions and the group rule.
        seed: of the choice among new groups.
        earlier: sides in earlier runs, as `earlier_sides` gives them.
        near: pairs of `images` that look the same, by position; for the group rule near-duplicates.

    Raises:
        DatasetError: if a class has too few groups, or no split leaves every class on every side, or a set with
            validation images is to validate on its test images.
    """
    groups = group_images([i.example for i in images], data, [i.quality.pixels_sha256 for i in images], near)
    rows = [
        ManifestRow(i.example.path, i.sha256, i.example.label, group, i.example.split or "train")
        for i, group in zip(images, groups, strict=True)
    ]
    given = {row.split for row in rows}
    wanted: list[tuple[Split, float]] = [("test", data.test_fraction), ("val", data.val_fraction)]
    if data.validate_on_test:
        check_validation(rows, data)
        wanted = wanted[:1]
    missing = [(side, fraction) for side, fraction in wanted if side not in given]
    _check_groups(rows, ["train", *(side for side, _ in missing)])
    for side, fraction in missing:
        rows = _carve(rows, side, fraction, seed, earlier or {})
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))


def split_table(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Return the number of images by split, then label."""
    splits: tuple[Split, ...] = ("train", "val", "test")
    counts = Counter((row.split, row.label) for row in manifest.rows)
    return {split: {label: counts[side, label] for side, label in sorted(counts) if side == split} for split in splits}


def taken_from_test(manifest: Manifest, earlier: Mapping[str, Split]) -> list[str]:
    """Return the groups that an earlier run tested on and that the set's own folders now train or validate on, sorted.

    Args:
        manifest: of this run.
        earlier: sides in earlier runs, as `earlier_sides` gives them.
    """
    rows = [row for row in manifest.rows if row.split != "test"]
    return sorted({row.group for row in rows if "test" in (earlier.get(row.group), earlier.get(row.sha256))})


def check_validation(images: Iterable[Example | ManifestRow], data: Data) -> None:
    """Refuse a set with validation images where the test images are to validate.

    Raises:
        DatasetError: with their number.
    """
    given = sum(image.split == "val" for image in images)
    if data.validate_on_test and given:
        raise DatasetError(
            f"data.validate_on_test: expected a set without validation images. Received: {given} of them; leave the "
            "setting out to validate on those"
        )


def _check_groups(rows: Sequence[ManifestRow], sides: Sequence[str]) -> None:
    """Refuse a set in which a class has fewer groups than sides to fill."""
    groups: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.split == "train":
            groups[row.label].add(row.group)
    for label, found in sorted(groups.items()):
        if len(found) < len(sides):
            what = "images" if all(row.group == row.path for row in rows) else "groups"
            raise DatasetError(
                f"class {label}: expected at least {len(sides)} {what}, to be in {', '.join(sides)}. "
                f"Received: {len(found)} ({', '.join(sorted(found))})"
            )


def _carve(
    rows: list[ManifestRow], side: Split, fraction: float, seed: int, earlier: Mapping[str, Split]
) -> list[ManifestRow]:
    """Move whole groups from train to `side` until it holds `fraction` of each class, as nearly as groups allow."""
    train = [row for row in rows if row.split == "train"]
    groups, labels = sorted({row.group for row in train}), sorted({row.label for row in train})
    number = {group: i for i, group in enumerate(groups)}
    counts = np.zeros((len(groups), len(labels)), np.int64)
    for row in train:
        counts[number[row.group], labels.index(row.label)] += 1
    known = _known_sides(train, earlier)
    fixed = np.array([known.get(group) == side for group in groups])
    free = np.array([group not in known for group in groups])
    for attempt in range(_TRIES):
        order = np.random.default_rng([seed, _STRICTEST.index(side), attempt]).permutation(np.flatnonzero(free))
        chosen = _choose(counts, fixed, order, fraction)
        held = counts[chosen].sum(axis=0)
        if held.all() and (counts.sum(axis=0) - held).all():
            moved = {group for group, is_chosen in zip(groups, chosen, strict=True) if is_chosen}
            return [replace(row, split=side) if row.split == "train" and row.group in moved else row for row in rows]
    lost = [label for label, there, of in zip(labels, held, counts.sum(axis=0), strict=True) if there in (0, of)]
    why = f". Earlier runs fix the side of {len(known)} groups; another --name starts anew" if known else ""
    raise DatasetError(
        f"expected a split with every class both in train and in {side}, and no group in both. "
        f"Received: none in {_TRIES} tries; the last left {', '.join(lost)} on one side{why}"
    )


def _choose(
    counts: NDArray[np.int64], fixed: NDArray[np.bool_], order: NDArray[np.intp], fraction: float
) -> NDArray[np.bool_]:
    """Return which groups to move: the fixed ones, and of the others, in order, those that bring the goal nearer.

    Args:
        counts: images, shape (groups, classes).
        fixed: groups that are moved in any case, shape (groups,).
        order: positions of groups that may be moved.
        fraction: share of each class to move.
    """
    total, held = counts.sum(axis=0).tolist(), counts[fixed].sum(axis=0).tolist()
    wanted = [max(1, round(fraction * count)) for count in total]
    chosen = fixed.copy()

    def distance(label: int, count: int) -> float:
        # A class that is missing altogether outweighs any surplus of another.
        return abs(count - wanted[label]) / wanted[label] + (1e6 if count == 0 else 0.0)

    for group in np.tile(order, 3):  # what the first pass took too much of, the others give back
        sign = -1 if chosen[group] else 1
        after = {int(label): held[label] + sign * int(counts[group, label]) for label in np.flatnonzero(counts[group])}
        gain = sum(distance(label, held[label]) - distance(label, count) for label, count in after.items())
        if gain > 0 and all(count < total[label] for label, count in after.items()):
            chosen[group] = not chosen[group]
            for label, count in after.items():
                held[label] = count
    return chosen


def _known_sides(rows: Sequence[ManifestRow], earlier: Mapping[str, Split]) -> dict[str, Split]:
    """Return the side of each group that an earlier run knew, by its name or by one of its images."""
    found: dict[str, set[Split]] = defaultdict(set)
    for row in rows:
        found[row.group].update(earlier[key] for key in (row.group, row.sha256) if key in earlier)
    return {group: next(s for s in _STRICTEST if s in sides) for group, sides in found.items() if sides}


def choose_rows(rows: Sequence[ManifestRow], most: int, *, seed: int) -> list[ManifestRow]:
    """Return at most so many rows, in their order.

    Each image has a rank of its own, so what was computed for the images of an earlier choice serves the next one.

    Args:
        rows: to choose from.
        most: how many.
        seed: of the ranks.
    """
    if len(rows) <= most:
        return list(rows)
    ranks = [hashlib.sha256(f"{seed} {row.sha256}".encode()).digest() for row in rows]
    chosen = sorted(range(len(rows)), key=lambda i: (ranks[i], rows[i].path))[: max(0, most)]
    return [rows[i] for i in sorted(chosen)]
