"""`models`, `promote` and `rollback`: which versions the store has, and which of them is live."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from contract.errors import ContractError
from contract.files.regular import read_regular
from contract.store import VERIFICATION_FILE, ModelStore
from contract.trials.findings import read_findings
from pipeline.commands.options.folders import add_folders, add_trials_folder, existing_store, trials_folder
from pipeline.commands.output.sizes import format_size
from pipeline.commands.output.tables import format_number, format_table
from pipeline.commands.output.trials import describe_trial


def add(commands: Any) -> None:
    """Describe the commands to argparse."""
    models = commands.add_parser("models", help="list the versions in the store and their roles")
    models.add_argument("--json", action="store_true", help="print the list as JSON")
    add_folders(models)
    add_trials_folder(models)
    models.set_defaults(command=_models)
    for role, text in (
        ("promote", "make the candidate, or a version by its number, live"),
        ("rollback", "make the previous version live again"),
    ):
        change = commands.add_parser(role, help=text)
        change.add_argument("name")
        if role == "promote":
            change.add_argument("version", nargs="?", type=int, help="its number; by default the candidate")
            add_trials_folder(change)
        add_folders(change)
        change.set_defaults(command=_change, role=role)


def _models(arguments: argparse.Namespace) -> None:
    store = ModelStore(arguments.models_dir)
    versions = [
        _describe(store, name, version) for name in sorted(store.read_index()) for version in store.read_versions(name)
    ]
    if arguments.json:
        print(json.dumps(versions, indent=2))
        return
    if not versions:
        print(f"no models in {arguments.models_dir}")
        return
    from pipeline.metrics.table import metrics_in

    columns = metrics_in("models")
    rows = [
        [
            f"{item['model']}/{item['version']}",
            " ".join(item["roles"]) or "-",
            *(format_number(item["metrics"].get(metric.name)) for metric in columns),
            item["created"] or "-",
            format_size(item["size"]),
        ]
        for item in versions
    ]
    for line in format_table([["version", "role", *(metric.words for metric in columns), "created", "size"], *rows]):
        print(line)
    for item in versions:
        if "candidate" in item["roles"] and item["reason"] is not None:
            print(f"{item['model']}/{item['version']} is a candidate: {item['reason']}")
    for line in _found(store, trials_folder(arguments)):
        print(line)


def _found(store: ModelStore, folder: Path, name: str | None = None) -> list[str]:
    """Return what gateways found in trials: of one model, or of all."""
    lines = []
    for model, entry in sorted(store.read_index().items()):
        if entry.trial is not None and name in (None, model):
            lines += describe_trial(model, entry.trial, read_findings(folder / model, entry.trial))
    return lines


def _describe(store: ModelStore, name: str, version: int) -> dict[str, Any]:
    """Return a version's row of the list; one whose contract cannot be read is listed all the same."""
    try:
        provenance = store.read_contract(name, version).document.get("provenance")
    except ContractError:
        provenance = None
    provenance = provenance if isinstance(provenance, dict) else {}
    metrics = _numbers(provenance.get("metrics"))
    files = (path for path in store.version_path(name, version).rglob("*") if path.is_file())
    return {
        "model": name,
        "version": version,
        "roles": list(store.read_index()[name].roles_of(version)),
        "accuracy": metrics.get("accuracy"),
        "metrics": metrics,
        "created": str(provenance["created"]) if "created" in provenance else None,
        "size": sum(path.stat().st_size for path in files),
        "trial": _trial_of(store, name, version),
        "reason": _reason(store.version_path(name, version) / VERIFICATION_FILE),
    }


def _trial_of(store: ModelStore, name: str, version: int) -> dict[str, Any] | None:
    trial = store.read_index()[name].trial
    return None if trial is None or trial.version != version else trial.as_document()


def _reason(path: Path) -> str | None:
    """Return the gate's reason for a version's first role; None where none was written down."""
    try:
        reason = json.loads(read_regular(path))["gate"]["reason"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return reason if isinstance(reason, str) else None


def _numbers(metrics: Any) -> dict[str, float]:
    """Return the numbers among a contract's metrics, which another program may have written."""
    return {k: v for k, v in metrics.items() if isinstance(v, float | int)} if isinstance(metrics, dict) else {}


def _change(arguments: argparse.Namespace) -> None:
    store = existing_store(arguments)
    if arguments.role == "promote":
        found = _found(store, trials_folder(arguments), arguments.name)
        entry = store.promote(arguments.name, arguments.version)
        for line in found:
            print(line)
    else:
        entry = store.rollback(arguments.name)
    print(f"{arguments.name}: live is version {entry.live}")
