"""Reads all runs and versions: recipe, metrics with intervals, curves, predictions, roles."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract.errors import ContractError
from contract.files.regular import read_regular
from contract.store import ModelStore
from pipeline.metrics.table import METRICS

_METRICS_FILE = "metrics.json"
_PREDICTIONS_FILE = "predictions.csv"
_REPORT_FILE = "report.html"
MAX_PREDICTIONS = 2000  # images of a run that the page can compare
_CURVES = ("loss", "val_loss", "accuracy", "val_accuracy")

Entry = dict[str, Any]


def gather_runs(store: ModelStore, runs_dir: Path, page: Path) -> list[Entry]:
    """Return every run that ended and every version without one, the newest first.

    Args:
        store: has the versions.
        runs_dir: has the runs.
        page: to which links are relative.
    """
    index = store.read_index()
    found, published = [], set()
    for folder, document in _read_runs(runs_dir):
        name, version = str(document.get("name", folder.parent.name)), document.get("version")
        roles: list[str] = []
        there = name in index and version in store.read_versions(name)
        if there and isinstance(version, int):
            roles = list(index[name].roles_of(version))
        published.add((name, version))
        found.append(_describe_run(folder, document, page, roles, is_in_store=there))
    for name in sorted(index):
        for version in store.read_versions(name):
            if (name, version) not in published:
                found.append(_describe_version(store, name, version, list(index[name].roles_of(version))))
    return sorted(found, key=lambda entry: str(entry["created"]), reverse=True)


def _read_runs(runs_dir: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Give the runs whose metrics can be read; a run that was stopped has none."""
    for path in sorted(runs_dir.glob(f"*/*/{_METRICS_FILE}")):
        try:
            document = json.loads(read_regular(path))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and isinstance(document.get("test"), dict):
            yield path.parent, document


def _describe_run(
    folder: Path, document: Mapping[str, Any], page: Path, roles: list[str], *, is_in_store: bool
) -> Entry:
    test, report = document["test"], folder / _REPORT_FILE
    training = document.get("training") or {}
    gate = document.get("gate") or {}
    return {
        "model": str(document.get("name", folder.parent.name)),
        "version": document.get("version") if is_in_store else None,
        "run": folder.name,
        "roles": roles,
        "created": str(document.get("created", "")),
        "report": os.path.relpath(report, page.parent) if report.is_file() else None,
        "images": test.get("images"),
        "gate": str(gate.get("verdict", "")),
        "metrics": _read_metrics(test),
        "recipe": flatten(document.get("recipe") or {}),
        "curves": {name: [epoch.get(name) for epoch in training.get("curves", [])] for name in _CURVES},
        "predictions": _read_predictions(folder / _PREDICTIONS_FILE),
    }


def _describe_version(store: ModelStore, name: str, version: int, roles: list[str]) -> Entry:
    """Return what the contract of a version without a run here says."""
    try:
        provenance = store.read_contract(name, version).document.get("provenance")
    except ContractError:
        provenance = None
    provenance = provenance if isinstance(provenance, dict) else {}
    metrics = provenance.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    recipe = provenance.get("recipe")
    return {
        "model": name,
        "version": version,
        "run": None,
        "roles": roles,
        "created": str(provenance.get("created", "")),
        "report": None,
        "images": metrics.get("images"),
        "gate": "",
        "metrics": _read_metrics(metrics),
        "recipe": flatten(recipe) if isinstance(recipe, dict) else {},
        "curves": {name: [] for name in _CURVES},
        "predictions": None,
    }


def _read_metrics(test: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the known metrics that are numbers, with their intervals."""
    return {
        metric.name: {"value": test[metric.name], "interval": test.get(f"{metric.name}_interval")}
        for metric in METRICS
        if isinstance(test.get(metric.name), int | float)
    }


def _read_predictions(path: Path) -> dict[str, list[str]] | None:
    """Return label and predicted class of each test image by path; None without them, or of too many."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_regular(path).decode())))
        found = {row["path"]: [row["label"], row["predicted"]] for row in rows}
    except (OSError, ValueError, KeyError, csv.Error):
        return None
    return found if len(found) <= MAX_PREDICTIONS else None


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as one level, `train.epochs` for example, with values as JSON."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = json.dumps(value)
    return flat
