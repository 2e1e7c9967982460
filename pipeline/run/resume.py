"""A run that was stopped, by Ctrl-C, kill -9 or a full disk: found again, checked to be unchanged, gone on with.

A run's folder says what the run is of (run.json, recipe.yaml, manifest.csv) and how far training is (checkpoints/). Of
the other stages nothing is kept: they are done again, and give the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from contract.files.regular import read_regular
from contract.store import ModelStore
from pipeline.data.image_quality import AuditedImage
from pipeline.data.split import Manifest, read_manifest
from pipeline.errors import ResumeError
from pipeline.recipe.recipe import Recipe
from pipeline.run_folder import RUN_FILE

_RECIPE_FILE, _MANIFEST_FILE, _METRICS_FILE = "recipe.yaml", "manifest.csv", "metrics.json"


@dataclass(frozen=True)
class RunRecord:
    """The settings that a run was started with, besides its recipe.

    Attributes:
        location: the set, an absolute path.
        weights: what training starts from, as in the contract's provenance.
        force: whether the version becomes live whatever the gate says.
        warm_start: whether training starts from the live version.
        devices: "one", or "all" of the machine.
    """

    location: str
    weights: str
    force: bool
    warm_start: bool = False
    devices: str = "one"

    def write(self, folder: Path) -> None:
        """Write the record to a run's folder, atomically."""
        unfinished = folder / f".{RUN_FILE}"
        unfinished.write_text(json.dumps({"format": 1, **vars(self)}, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(folder / RUN_FILE)


def read_record(folder: Path) -> tuple[RunRecord, Recipe]:
    """Return the settings that a run was started with.

    Raises:
        ResumeError: if it cannot be read.
    """
    try:
        document = json.loads(read_regular(folder / RUN_FILE))
        recipe = Recipe.model_validate(yaml.safe_load(read_regular(folder / _RECIPE_FILE).decode("utf-8")))
        later = document.get("warm_start", False), document.get("devices", "one")
        return RunRecord(document["location"], document["weights"], document["force"], *later), recipe
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, ValidationError) as err:
        raise ResumeError(f"the run {folder.name} cannot be gone on with: {err}. Start it anew") from err


def check_unfinished(folder: Path, name: str, store: ModelStore) -> None:
    """Check that a run has not published anything yet.

    Raises:
        ResumeError: if it has.
    """
    version = find_published(folder, name, store)
    if version is not None or (folder / _METRICS_FILE).exists():
        raise ResumeError(f"the run {folder.name} has ended" + (f": it published {name}/{version}" if version else ""))


def find_published(folder: Path, name: str, store: ModelStore) -> int | None:
    """Return the version that a run has published; None if there is none.

    Raises:
        ContractError: if a version of the model cannot be read.
    """
    made = (v for v in store.read_versions(name) if _run_of(store, name, v) == folder.name)
    return next(made, None)


def check_same(folder: Path, recipe: Recipe, weights: str) -> None:
    """Check that a run continues with the settings that it was started with.

    Args:
        folder: the run's.
        recipe: of the continued run.
        weights: the provenance of what training would start from.

    Raises:
        ResumeError: naming the keys that differ.
    """
    record, started = read_record(folder)
    before, now = _flat(started.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    keys = [*now, *(key for key in before if key not in now)]  # some are written only where they are no defaults
    changed = [f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in keys if before.get(key) != now.get(key)]
    if record.weights != weights:
        changed.append(f"the weights were {record.weights}, are {weights}")
    if changed:
        raise ResumeError(
            f"the recipe has changed since the run {folder.name} was started: {'; '.join(changed)}. "
            "Go on without --recipe and --set, or start a new run"
        )


def kept_manifest(folder: Path, images: Sequence[AuditedImage]) -> Manifest | None:
    """Return the manifest of a run that is gone on with; None if it was stopped before there was one.

    Args:
        folder: the run's.
        images: the set as it is now.

    Raises:
        ResumeError: if the set has changed since.
    """
    if not (folder / _MANIFEST_FILE).exists():
        return None
    manifest = read_manifest(folder / _MANIFEST_FILE)
    before = {(row.path, row.sha256, row.label) for row in manifest.rows}
    now = {(image.example.path, image.sha256, image.example.label) for image in images}
    if before != now:
        example = min(before ^ now)[0]
        raise ResumeError(
            f"the images have changed since the run {folder.name} was started: {len(before - now)} of {len(before)} "
            f"are gone or different, {len(now - before)} are new or different, such as {example}. Start a new run"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a run's manifest, atomically: half of one would look like a changed set."""
    unfinished = folder / f".{_MANIFEST_FILE}"
    manifest.write(unfinished)
    unfinished.replace(folder / _MANIFEST_FILE)


def _run_of(store: ModelStore, name: str, version: int) -> Any:
    return store.read_contract(name, version).document.get("provenance", {}).get("run")


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
