"""`models`, `promote` and `rollback`: which versions the store has, and which of them is live."""

from __future__ import annotations

import argparse
from typing import Any

from contract.store import ModelStore
from pipeline.commands.folders import add_folders


def add(commands: Any) -> None:
    """Describe the commands to argparse."""
    models = commands.add_parser("models", help="list the models in the store")
    add_folders(models)
    models.set_defaults(command=_models)
    for role, text in (("promote", "make the candidate live"), ("rollback", "make the previous version live again")):
        change = commands.add_parser(role, help=text)
        change.add_argument("name")
        add_folders(change)
        change.set_defaults(command=_change, role=role)


def _models(arguments: argparse.Namespace) -> None:
    for name, entry in sorted(ModelStore(arguments.models_dir).read_index().items()):
        roles = ((role, getattr(entry, role)) for role in ("live", "previous", "candidate"))
        print(f"{name}: " + ", ".join(f"{role} {version}" for role, version in roles if version is not None))


def _change(arguments: argparse.Namespace) -> None:
    entry = getattr(ModelStore(arguments.models_dir), arguments.role)(arguments.name)
    print(f"{arguments.name}: live is version {entry.live}")
