"""Audits images before training: every file is read, hashed and decoded once."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.audit.checking import Checked, Checker, Problem, check_files
from pipeline.audit.findings import Finding, Level, counted, each
from pipeline.audit.kept.copies import KeptCopies
from pipeline.audit.kept.fact_store import FactStore
from pipeline.audit.leakage import find_copies, find_near_copies, find_split_groups
from pipeline.audit.measuring import FileMeasure, Measurer, num_processes
from pipeline.audit.name_groups import NameRule, suggest_rule
from pipeline.audit.near_copies import find_near_pairs
from pipeline.audit.quality import find_quality
from pipeline.audit.shortcuts import find_shortcuts
from pipeline.data.groups import NearPair, group_images, is_grouped
from pipeline.data.image_files import describe_counts
from pipeline.data.image_quality import AuditedImage
from pipeline.data.ingest import Dataset, Example
from pipeline.data.pixels import Pixels
from pipeline.errors import DatasetError, list_names
from pipeline.progress import progress_bar
from pipeline.recipe.data_settings import Data

NUM_THREADS = 2  # for each process: one reads while the other waits for it
_SHOWN = 20  # problems named in an error; all of them are in the run's audit.json
_IMBALANCE = 5  # times as many images in the largest class as in the smallest
# What people keep beside images; anything else that is no image may be one in a format that is not read.
_NOTES = frozenset({".csv", ".html", ".json", ".md", ".parquet", ".pdf", ".txt", ".xlsx", ".xml", ".yaml"})
_WAYS_ROUND = {
    "two_labels": "decide which label is right and remove the other copy",
    "groups_across_splits": "move each group to one side, or accept invalid test metrics with --allow-leakage",
    "leaked_copies": "remove them from one side, or accept invalid test metrics with --allow-leakage",
}


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        images: the readable ones, in the set's order.
        problems: the others.
        near: pairs of `images` that look the same without being the same, by position.
        findings: all that there is to say, errors first.
        deep: whether the expensive searches were made.
    """

    images: tuple[AuditedImage, ...]
    problems: tuple[Problem, ...]
    near: tuple[NearPair, ...]
    findings: tuple[Finding, ...]
    deep: bool = True

    def lines(self, level: Level) -> list[str]:
        """Return the findings of one level, a line each."""
        return [finding.line for finding in self.findings if finding.level == level]


def audit(
    dataset: Dataset, pixels: Pixels, data: Data, kept: FactStore | None = None, copies: KeptCopies | None = None
) -> Audit:
    """Read, hash, decode and measure every image of a set; decoded images stay in `pixels`.

    Args:
        dataset: the set.
        pixels: decodes the images.
        data: the recipe's settings of the audit.
        kept: facts of images that were audited before, which are not decoded; gets those of new ones.
        copies: earlier searches for changed copies; gets this one.

    Raises:
        DatasetError: if the recipe's group rule does not match an image.
    """
    deep = data.is_deep(len(dataset.examples))
    with Measurer(FileMeasure(pixels.spec, deep=deep, returns_pixels=pixels.has_room)) as measurer:
        checker = Checker(dataset.source, measurer, kept, pixels)
        checked = check_files(checker, [example.path for example in dataset.examples], NUM_THREADS * num_processes())
        bar = progress_bar(checked, total=len(dataset.examples), what="Reading", unit="image")
        results = keep_facts(dataset, bar, kept)
    return judge(dataset, results, pixels, data, copies)


def keep_facts(
    dataset: Dataset, checked: Iterable[Checked | Problem], kept: FactStore | None = None
) -> list[AuditedImage | Problem]:
    """Return the images of a set with what was measured of them, which is kept for later audits.

    Args:
        dataset: the set.
        checked: of each of its examples, in order.
        kept: gets the facts, also where `checked` ends early.
    """
    results: list[AuditedImage | Problem] = []
    try:
        for example, found in zip(dataset.examples, checked, strict=True):
            if isinstance(found, Problem):
                results.append(found)
                continue
            image = AuditedImage(example, found.sha256, found.quality, found.facts)
            if kept:
                kept.add(image)
            results.append(image)
    finally:
        if kept:
            kept.flush()
    return results


def judge(
    dataset: Dataset,
    results: Sequence[AuditedImage | Problem],
    pixels: Pixels,
    data: Data,
    copies: KeptCopies | None = None,
) -> Audit:
    """Find what images that were measured one by one say together: pairs, shortcuts and all other findings.

    Args:
        dataset: the set.
        results: of each of its examples.
        pixels: has the input's size.
        data: the recipe's settings of the audit.
        copies: earlier searches for changed copies; gets this one.

    Raises:
        DatasetError: if the recipe's group rule does not match an image.
    """
    deep = data.is_deep(len(dataset.examples))
    images = tuple(item for item in results if isinstance(item, AuditedImage))
    problems = tuple(item for item in results if isinstance(item, Problem))
    near = tuple(find_near_pairs([image.quality for image in images], data.near_distance, deep=deep, kept=copies))
    findings = [*_find_problems(dataset, problems, data), *_find_in_images(dataset, images, near, pixels, data)]
    return Audit(images, problems, near, tuple(sorted(findings, key=lambda finding: finding.level)), deep)


def check_audit(found: Audit, labels: Sequence[str], data: Data) -> None:
    """Refuse a set whose images cannot be used.

    Args:
        found: the audit.
        labels: classes that must keep at least one training image.
        data: the recipe's settings of the audit.

    Raises:
        DatasetError: naming the files and the way round.
    """
    errors = [finding for finding in found.findings if finding.level == "error"]
    if not errors:
        left = {image.example.label for image in found.images if image.example.split in (None, "train")}
        if lost := sorted(set(labels) - left):
            raise DatasetError(
                f"expected readable training images in every class. Received: none in {list_names(lost)}"
            )
        return
    lines = []
    for finding in errors:
        entries = [f"  {finding.describe_entry(entry)}" for entry in finding.images[:_SHOWN]]
        if finding.code == "unreadable":
            entries = [f"  {problem.path}: {problem.message}" for problem in found.problems[:_SHOWN]]
        more = len(finding.images) - len(entries)
        lines += [*entries, *([f"  and {more} more"] if more else []), _conclusion(finding)]
    raise DatasetError(lines[-1], lines[:-1])


def _find_problems(dataset: Dataset, problems: Sequence[Problem], data: Data) -> list[Finding]:
    findings = []
    if problems:
        skipped = data.on_unreadable == "skip"
        words = "be read and were left out" if skipped else "be used"
        level: Level = "warning" if skipped else "error"
        subject = (
            f"{counted(len(problems), 'image')} cannot"
            if skipped
            else (f"{len(problems)} of {len(dataset.examples)} images cannot")
        )
        findings.append(Finding(level, "unreadable", f"{subject} {words}", each([p.path for p in problems])))
    if unexpected := {suffix: count for suffix, count in dataset.ignored.items() if suffix not in _NOTES}:
        names = describe_counts(unexpected, dataset.advice)
        findings.append(Finding("warning", "left_out", f"Files that are not images were left out: {names}"))
    return findings


def _find_in_images(
    dataset: Dataset, images: Sequence[AuditedImage], near: Sequence[NearPair], pixels: Pixels, data: Data
) -> list[Finding]:
    examples = [image.example for image in images]
    pixels_sha256 = [image.quality.pixels_sha256 for image in images]
    suggested = None if is_grouped(examples, data) else suggest_rule(examples)
    rule = data if suggested is None else data.model_copy(update={"group": suggested.pattern})
    return [
        *find_copies(examples, pixels_sha256, data),
        *find_near_copies(examples, near),
        *find_split_groups(examples, data),
        *_find_class_sizes(dataset.labels, examples),
        *_find_missing_groups(examples, data, suggested),
        *find_shortcuts(images, group_images(examples, rule, pixels_sha256, near), data),
        *find_quality({image.example.path: image.quality for image in images}, pixels.spec),
    ]


def _find_class_sizes(labels: Sequence[str], examples: Sequence[Example]) -> list[Finding]:
    findings = []
    training = Counter(example.label for example in examples if example.split in (None, "train"))
    if training:
        (most, largest), (fewest, smallest) = training.most_common(1)[0], training.most_common()[-1]
        if largest > _IMBALANCE * smallest:
            words = f"The classes are uneven: {largest} training images of {most}, {smallest} of {fewest}"
            findings.append(Finding("warning", "imbalance", words))
    for split in ("val", "test"):
        there = {example.label for example in examples if example.split == split}
        if there and (missing := sorted(set(labels) - there)):
            what = "test" if split == "test" else "validation"
            findings.append(Finding("warning", "missing_class", f"No {what} images of {list_names(missing)}"))
    return findings


def _find_missing_groups(examples: Sequence[Example], data: Data, rule: NameRule | None) -> list[Finding]:
    if is_grouped(examples, data):
        return []
    words = (
        "No group rule: images of the same thing may be on both sides of a split, which flatters the numbers. Say what "
        "belongs together with --set data.group=REGEX on file names, or keep look-alikes together with "
        "--set data.group=near-duplicates"
    )
    if rule is None:
        return [Finding("warning", "no_group_rule", words)]
    images = sum(len(paths) for paths in rule.groups)
    torn = f", {rule.num_torn} of them on more than one side of the split" if rule.num_torn else ""
    option = shlex.quote(f"data.group={rule.pattern}")
    words = (
        f"No group rule, but file names share prefixes: --set {option} puts {images} images into "
        f"{counted(len(rule.groups), 'group')}{torn}"
    )
    return [Finding("warning", "no_group_rule", words, rule.groups)]


def _conclusion(finding: Finding) -> str:
    if finding.code == "unreadable":
        return (
            f"{finding.message}, named above: repair or remove them, or leave them out with "
            "--set data.on_unreadable=skip"
        )
    if not finding.images:  # a fault of classes: the message says what to do
        return finding.message
    return f"{finding.message}, named above: {_WAYS_ROUND[finding.code]}"
