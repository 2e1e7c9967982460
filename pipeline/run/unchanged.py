"""Finds the version that was trained on the same images by the same recipe: training again would give it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contract.errors import ContractError
from contract.files.regular import read_regular
from contract.store import REPORT_FILE, ModelStore
from pipeline.data.lineage import find_run
from pipeline.errors import RecipeError
from pipeline.networks.own.backbone import without_folder
from pipeline.recipe.recipe import Recipe

_METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Unchanged:
    """A version that a new run would only repeat.

    Attributes:
        name: the model's.
        version: its number.
        roles: that it plays.
        directory: its folder in the store.
        report: the HTML report: the run's, or the version's own copy.
        test: the test metrics, as the run wrote them down; those of the contract if the run is gone.
    """

    name: str
    version: int
    roles: tuple[str, ...]
    directory: Path
    report: Path
    test: Mapping[str, Any]

    @property
    def is_live(self) -> bool:
        """Whether the version is live."""
        return "live" in self.roles

    @property
    def reason(self) -> str:
        """Why nothing new was published."""
        return f"{self.name}/{self.version} was trained on the same images by the same recipe and seed"


def find_unchanged(
    store: ModelStore,
    runs_dir: Path,
    name: str,
    *,
    dataset_sha256: str,
    recipe: Recipe,
    weights: str,
    network_sha256: str | None,
) -> Unchanged | None:
    """Return the newest version of a model that a run would only repeat; None if there is none.

    Args:
        store: has the versions.
        runs_dir: has their runs.
        name: the model.
        dataset_sha256: over every image's content, label, group and split.
        recipe: of the run.
        weights: `provenance.weights` of its contract: what its training would start from.
        network_sha256: over the file of a network of the user's own; None of other networks.
    """
    index = store.read_index()
    if name not in index:
        return None
    wanted = {"dataset_sha256": dataset_sha256, "weights": weights, "network_sha256": network_sha256}
    for version in reversed(store.read_versions(name)):
        try:
            provenance = store.read_contract(name, version).document.get("provenance")
        except ContractError:
            continue
        if not isinstance(provenance, Mapping) or not _is_same(provenance, wanted, recipe):
            continue
        directory, run = store.version_path(name, version), find_run(store, runs_dir, name, version)
        reports = [*([] if run is None else [run / "report.html"]), directory / REPORT_FILE]
        report = next((path for path in reports if path.is_file()), reports[-1])
        return Unchanged(name, version, index[name].roles_of(version), directory, report, _test_of(run, provenance))
    return None


def _is_same(provenance: Mapping[str, Any], wanted: Mapping[str, str | None], recipe: Recipe) -> bool:
    if any(provenance.get(key) != value for key, value in wanted.items()):
        return False
    try:
        return without_folder(Recipe.model_validate(provenance.get("recipe"))) == without_folder(recipe)
    except (ValidationError, RecipeError):  # of another version of Fovea
        return False


def _test_of(run: Path | None, provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    if run is not None:
        try:
            test = json.loads(read_regular(run / _METRICS_FILE))["test"]
            if isinstance(test, dict):
                return test
        except (OSError, ValueError, KeyError, TypeError):
            pass  # pruned, or unfinished
    metrics = provenance.get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}
