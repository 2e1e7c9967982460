"""Audits and splits a data set before training; writes the findings also when it refuses the set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contract.files.durable import replace_file
from contract.model import InputSpec
from pipeline.audit.audit import audit, check_audit
from pipeline.audit.audit_record import write_audit
from pipeline.audit.findings import Finding
from pipeline.audit.kept import copies as kept_copies
from pipeline.audit.kept.copies import KeptCopies
from pipeline.audit.kept.fact_store import FOLDER, FactStore, define_facts
from pipeline.data.ingest import Dataset
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, earlier_sides, split_images, split_table, taken_from_test
from pipeline.networks.network import input_size
from pipeline.networks.own.backbone import backbone_of
from pipeline.networks.preprocessing import check_channels
from pipeline.recipe.recipe import Recipe
from pipeline.run.resume import kept_manifest, write_manifest
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

_NAMED = 10  # groups, in one warning
_NO_HONEST_TEST = (
    "No honest test is left: data.validate_on_test chose the epoch, the temperature and the thresholds on the test "
    "images, so the test figures are too good."
)


@dataclass(frozen=True)
class Images:
    """A data set after audit and split.

    Attributes:
        dataset: where the images are.
        findings: of the audit.
        num_problems: images that could not be used.
        manifest: every image's group and side.
        pixels: decodes the images, most of them decoded already.
        warnings: for the report; no file or group is named.
    """

    dataset: Dataset
    findings: tuple[Finding, ...]
    num_problems: int
    manifest: Manifest
    pixels: Pixels
    warnings: list[str]

    def document(self) -> dict[str, Any]:
        """Return what metrics.json and the report say of the images; no file or group is named."""
        return {
            "labels": list(self.dataset.labels),
            "splits": split_table(self.manifest),
            "num_groups": len({row.group for row in self.manifest.rows}),
            "num_problems": self.num_problems,
            "audit": {finding.code: max(1, len(finding.images)) for finding in self.findings},
        }


def input_spec(recipe: Recipe) -> InputSpec:
    """Return how a recipe's images become pixels."""
    model, color = recipe.model, recipe.data.color
    backbone = backbone_of(model)
    size = input_size(model, backbone)
    channels = 1 if color == "grey" else 3
    if model.preprocessing is not None:
        check_channels(model.preprocessing, 3 if backbone.repeats_grey else channels)
    return InputSpec(size, size, channels, color, resize=model.resize, fit=model.fit, crop_fraction=model.crop_fraction)


def open_caches(runs_dir: Path, recipe: Recipe, spec: InputSpec, num_files: int) -> tuple[FactStore, KeptCopies]:
    """Return what audits of so many images have measured for one input, and their searches for changed copies."""
    definition, limit = define_facts(spec, deep=recipe.data.is_deep(num_files)), int(recipe.cache.max_gb * 1e9)
    return (
        FactStore(runs_dir / FOLDER, definition, max_bytes=limit),
        KeptCopies(runs_dir / kept_copies.FOLDER, definition, max_bytes=limit),
    )


def prepare_images(
    dataset: Dataset, recipe: Recipe, spec: InputSpec, folder: Path, *, keep_split: bool = True
) -> Images:
    """Audit and split a set; recipe, audit and manifest are written to the run's folder.

    The facts of each image, 4 KB or more, are freed with the audit.

    Args:
        dataset: the images.
        recipe: how they are audited and split.
        spec: how they become pixels.
        folder: the run's.
        keep_split: whether the manifest is written, so that later runs keep the sides.

    Raises:
        DatasetError: if the audit finds errors or the set cannot be split.
        ResumeError: if the run is gone on with and the set has changed since it was started.
    """
    replace_file(folder / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    pixels = Pixels(dataset.source, spec, cache_bytes=int(recipe.cache.memory_gb * 1e9))
    facts, copies = open_caches(folder.parent.parent, recipe, spec, len(dataset.examples))
    found = audit(dataset, pixels, recipe.data, facts, copies)
    write_audit(folder, dataset, found, pixels)
    for finding in found.findings:
        if finding.level == "warning":
            warn(log, finding.weight, "%s.", finding.line)
    check_audit(found, dataset.labels, recipe.data)
    warnings = [f"{finding.message}." for finding in found.findings if finding.level == "warning"]
    manifest = kept_manifest(folder, found.images)
    if manifest is None:
        sides = earlier_sides(folder.parent)
        manifest = split_images(found.images, recipe.data, recipe.train.seed, earlier=sides, near=found.near)
        if taken := taken_from_test(manifest, sides):
            warnings.append(_warn_taken_from_test(taken))
        if keep_split:
            write_manifest(folder, manifest)
    if manifest.validates_on_test:
        warn(log, Weight.FIGURES, _NO_HONEST_TEST)
        warnings.append(_NO_HONEST_TEST)
    return Images(dataset, found.findings, len(found.problems), manifest, pixels, warnings)


def _warn_taken_from_test(groups: list[str]) -> str:
    """Name the groups on the console, and return the report's text, which names none."""
    text = (
        f"{len(groups)} groups of images that an earlier run tested on are now in train or val: this model's "
        "test figures cannot be compared with those of that run's"
    )
    more = ", ..." if len(groups) > _NAMED else ""
    warn(log, Weight.FIGURES, "%s: %s%s.", text, ", ".join(groups[:_NAMED]), more)
    return f"{text}."
