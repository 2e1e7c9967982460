"""`report`: where the report of a version is."""

from __future__ import annotations

import argparse
import json
import sys
import webbrowser
from pathlib import Path
from typing import Any

from contract.commands import spell_command
from contract.errors import StoreError
from contract.files.regular import read_regular
from contract.store import REPORT_FILE, ModelStore
from pipeline.metrics.wrong_label_text import describe_search

_METRICS_FILE = "metrics.json"


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    report = commands.add_parser("report")
    report.add_argument(
        "model", nargs="?", metavar="NAME[/VERSION]", help="may be left out when the store has one model"
    )
    report.add_argument("--open", action="store_true", help="open it in a browser")
    report.add_argument("--models-dir", type=Path, default=Path("models"), help="the model store")
    report.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are recorded")
    report.set_defaults(command=_report)


def find_report(store: ModelStore, runs_dir: Path, reference: str) -> Path:
    """Return the report of a version: its run's, or the copy without pictures that the version holds.

    Raises:
        StoreError: if there is no such version, or it has no report.
    """
    name, version = store.resolve(reference)
    provenance = store.read_contract(name, version).document.get("provenance")
    run = provenance.get("run") if isinstance(provenance, dict) else None
    candidates = [store.version_path(name, version) / REPORT_FILE]
    if isinstance(run, str):
        candidates.insert(0, runs_dir / name / run / "report.html")
    for path in candidates:
        if path.is_file():
            return path
    raise StoreError(f"{name}/{version} has no report: it was published by another command than train")


def _report(arguments: argparse.Namespace) -> None:
    store = ModelStore(arguments.models_dir)
    path = find_report(store, arguments.runs_dir, arguments.model or _only_model(store))
    print(path)
    if labels := _wrong_labels(path.with_name(_METRICS_FILE)):
        print(f"labels: {labels}", file=sys.stderr)
    if arguments.open and not webbrowser.open(path.resolve().as_uri()):
        raise StoreError(f"no browser can be started here; open {path.resolve()}")


def _wrong_labels(metrics: Path) -> str | None:
    """Return what a run found out about wrong labels; None without its metrics, or where they do not say."""
    try:
        return describe_search(json.loads(read_regular(metrics))["wrong_labels"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _only_model(store: ModelStore) -> str:
    names = sorted(store.read_index())
    if not names:
        raise StoreError(f"no models in {store.root}: train one with {spell_command('train FOLDER')}")
    if len(names) > 1:
        raise StoreError(f"NAME: expected one of {', '.join(names)}. Received: none")
    return names[0]
