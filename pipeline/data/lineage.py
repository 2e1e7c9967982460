"""Finds the images that a version was trained on, by the manifests of its run and of its ancestors' runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contract.errors import ContractError
from contract.model import ModelContract
from contract.store import NAME_PATTERN, ModelStore
from pipeline.data.split import Manifest, ManifestRow, read_manifest
from pipeline.errors import DatasetError
from pipeline.recipe.augment_settings import Augment
from pipeline.recipe.data_settings import Data

MANIFEST_FILE = "manifest.csv"


@dataclass(frozen=True)
class Seen:
    """Images that a version was trained or validated on.

    Attributes:
        sha256: hex digests of the files' bytes.
        groups: the groups, such as patients, that they belong to.
    """

    sha256: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def __or__(self, other: Seen) -> Seen:
        """Return the images of both."""
        return Seen(self.sha256 | other.sha256, self.groups | other.groups)

    def knows(self, row: ManifestRow) -> bool:
        """Whether an image, or another one of its group, was seen."""
        return row.sha256 in self.sha256 or row.group in self.groups


def seen_in(manifest: Manifest) -> Seen:
    """Return the images that a run with this manifest trains and validates on."""
    rows = [row for row in manifest.rows if row.split != "test"]
    return Seen(frozenset(row.sha256 for row in rows), frozenset(row.group for row in rows))


def trained_data(contract: ModelContract) -> Data:
    """Return the recipe's `data` section that a version was trained by; the defaults where its contract has none."""
    try:
        return Data.model_validate(_recipe_section(contract, "data") or {})
    except ValidationError:  # written by another Fovea, or another program
        return Data()


def trained_augmentation(contract: ModelContract) -> tuple[Augment, int] | None:
    """Return the augmentation that a version was trained with, and its seed; None where its contract has none."""
    augment, train = _recipe_section(contract, "augment"), _recipe_section(contract, "train")
    seed = train.get("seed") if isinstance(train, Mapping) else None
    if not isinstance(augment, Mapping) or not isinstance(seed, int):
        return None
    try:
        return Augment.model_validate(augment), seed
    except ValidationError:  # written by another Fovea, or another program
        return None


def class_order(contract: ModelContract) -> tuple[str, ...]:
    """Return the class ids in the order that the recipe of a version declares; else in that of its outputs."""
    labels = tuple(label.id for label in contract.labels)
    section = _recipe_section(contract, "evaluate")
    order = section.get("order") if isinstance(section, Mapping) else None
    declared = tuple(order) if isinstance(order, list) and all(isinstance(label, str) for label in order) else ()
    return declared if sorted(declared) == sorted(labels) else labels


def _recipe_section(contract: ModelContract, name: str) -> Any:
    """Return a section of the recipe in a contract's provenance; None if it has none."""
    found: Any = contract.document
    for key in ("provenance", "recipe", name):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def find_run(store: ModelStore, runs_dir: Path, name: str, version: int) -> Path | None:
    """Return the folder of the run that made a version, or None if it is gone or the version has none.

    Raises:
        StoreError: if there is no such version.
    """
    run = _provenance(store, name, version).get("run")
    if not isinstance(run, str) or not NAME_PATTERN.fullmatch(run):  # a foreign contract may hold any text
        return None
    # A version that was imported under another name still has its run under the old one.
    folders = [runs_dir / name / run, *sorted(runs_dir.glob(f"*/{run}"))]
    return next((folder for folder in folders if (folder / MANIFEST_FILE).is_file()), None)


def seen_by(store: ModelStore, runs_dir: Path, name: str, version: int) -> Seen | None:
    """Return the images of a version's training and of its ancestors', or None if its own manifest is gone.

    Raises:
        StoreError: if there is no such version.
    """
    folder = find_run(store, runs_dir, name, version)
    if folder is None:
        return None
    try:
        own = seen_in(read_manifest(folder / MANIFEST_FILE))
    except DatasetError:
        return None
    return own | seen_by_ancestors(store, runs_dir, _provenance(store, name, version).get("weights"))


def seen_by_ancestors(store: ModelStore, runs_dir: Path, weights: Any) -> Seen:
    """Return the training images of the versions whose Keras model a training started from.

    Args:
        store: where the ancestors are looked for, by the hash of their Keras model.
        runs_dir: has the manifests.
        weights: `provenance.weights` of a contract; only "sha256:..." can name another version's model.
    """
    seen = Seen()
    visited: set[Any] = set()
    while isinstance(weights, str) and weights not in visited:
        visited.add(weights)
        found = _find_by_model(store, weights.removeprefix("sha256:"))
        if found is None:
            break
        folder = find_run(store, runs_dir, *found)
        if folder is not None:
            seen |= seen_in(read_manifest(folder / MANIFEST_FILE))
        weights = _provenance(store, *found).get("weights")
    return seen


def _find_by_model(store: ModelStore, sha256: str) -> tuple[str, int] | None:
    for name, version in _all_versions(store):
        try:
            if _provenance(store, name, version).get("keras_model_sha256") == sha256:
                return name, version
        except ContractError:  # a version that cannot be read is no known ancestor
            continue
    return None


def _all_versions(store: ModelStore) -> Iterable[tuple[str, int]]:
    return ((name, version) for name in store.read_index() for version in store.read_versions(name))


def _provenance(store: ModelStore, name: str, version: int) -> dict[str, Any]:
    provenance = store.read_contract(name, version).document.get("provenance")
    return provenance if isinstance(provenance, dict) else {}
