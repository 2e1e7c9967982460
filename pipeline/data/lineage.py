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
_FILE_HASH = "sha256:"  # begins `provenance.weights` where training started from a file


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
        """Return whether an image, or another one of its group, was seen."""
        return row.sha256 in self.sha256 or row.group in self.groups


def seen_in(manifest: Manifest) -> Seen:
    """Return the images that a run with this manifest trains and validates on; test images too where those validate."""
    validates = manifest.validates_on_test
    rows = [row for row in manifest.rows if validates or row.split != "test"]
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
    run = _run_id(_provenance(store, name, version).get("run"))
    # A version that was imported under another name still has its run under the old one.
    return None if run is None else _find_folder(runs_dir, run, runs_dir / name / run)


def seen_by(store: ModelStore, runs_dir: Path, name: str, version: int) -> Seen | None:
    """Return the images of a version's training and of its ancestors', or None if a manifest of these is gone.

    Raises:
        StoreError: if there is no such version.
    """
    folder = find_run(store, runs_dir, name, version)
    own = None if folder is None else _seen_in_folder(folder)
    earlier = seen_by_ancestors(runs_dir, find_ancestors(store, _provenance(store, name, version)))
    return None if own is None or earlier is None else own | earlier


def seen_by_ancestors(runs_dir: Path, ancestors: Iterable[str | None]) -> Seen | None:
    """Return the images of the trainings that a training started from, or None if a manifest of these is gone.

    Args:
        runs_dir: has the manifests, which outlive their versions.
        ancestors: as `find_ancestors` gives them.
    """
    seen = Seen()
    for run in ancestors:
        folder = None if run is None else _find_folder(runs_dir, run)
        found = None if folder is None else _seen_in_folder(folder)
        if found is None:
            return None
        seen |= found
    return seen


def find_ancestors(store: ModelStore, provenance: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return the runs whose Keras models a training started from, the nearest first; None for one that is not known.

    Args:
        store: where the ancestors are looked for, by the hash of their Keras model, as far as they are not named.
        provenance: of the training's contract. `ancestors` names the runs; contracts of earlier versions of Fovea have
            `weights` alone, of which only "sha256:..." can be another version's model.
    """
    runs: list[str | None] = []
    visited: set[str] = set()
    while True:
        named, weights = provenance.get("ancestors"), provenance.get("weights")
        if isinstance(named, list):
            return (*runs, *map(_run_id, named))
        if not isinstance(weights, str) or not is_file_hash(weights) or weights in visited:
            return tuple(runs)
        visited.add(weights)
        found = _find_by_model(store, weights.removeprefix(_FILE_HASH))
        if found is None:
            return (*runs, None) if _names_a_version(provenance) else tuple(runs)
        provenance = _provenance(store, *found)
        runs.append(_run_id(provenance.get("run")))


def is_file_hash(weights: str) -> bool:
    """Return whether `provenance.weights` names a file, which may be the Keras model of another version."""
    return weights.startswith(_FILE_HASH)


def _names_a_version(provenance: Mapping[str, Any]) -> bool:
    """Return whether a contract says that its training started from a version in the store, not from another file."""
    recipe = provenance.get("recipe")
    model = recipe.get("model") if isinstance(recipe, Mapping) else None
    weights = model.get("weights") if isinstance(model, Mapping) else None
    return "warm_start" in provenance or (isinstance(weights, str) and names_version(weights))


def names_version(weights: str) -> bool:
    """Return whether `model.weights` of a recipe has the form NAME/VERSION, where VERSION may be a role."""
    name, slash, version = weights.partition("/")
    return bool(slash and NAME_PATTERN.fullmatch(name) and NAME_PATTERN.fullmatch(version))


def _run_id(value: Any) -> str | None:
    """Return the name of a run's folder; None for any other text or value, as a foreign contract may hold."""
    return value if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else None


def _find_folder(runs_dir: Path, run: str, *likely: Path) -> Path | None:
    """Return the folder of a run that has a manifest, of whatever model it is."""
    folders = [*likely, *sorted(runs_dir.glob(f"*/{run}"))]
    return next((folder for folder in folders if (folder / MANIFEST_FILE).is_file()), None)


def _seen_in_folder(folder: Path) -> Seen | None:
    try:
        return seen_in(read_manifest(folder / MANIFEST_FILE))
    except DatasetError:
        return None


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
