"""`prune`: delete old versions, leftovers of old runs and old features."""

from __future__ import annotations

import argparse
from typing import Any

from contract.store import ModelStore
from pipeline.commands.options.folders import add_folders
from pipeline.commands.output.sizes import format_size


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("prune", help="delete old versions, what old runs left behind, the cache")
    command.add_argument(
        "--keep",
        type=_count,
        required=True,
        metavar="N",
        help="keep each model's N newest versions beside those that are live, previous or candidate",
    )
    command.add_argument("--dry-run", action="store_true", help="only list what would be deleted")
    add_folders(command)
    command.set_defaults(command=_prune)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on. Received: {text!r}")
    return int(text)


def _prune(arguments: argparse.Namespace) -> None:
    from pipeline.publishing.prune import prune

    store = ModelStore(arguments.models_dir)
    found = prune(store, arguments.runs_dir, keep=arguments.keep, dry_run=arguments.dry_run)
    for item in found:
        print(f"{item.kind} {item.name}: {format_size(item.size)}")
    done = "would be deleted" if arguments.dry_run else "deleted"
    print(f"{done}: {len(found)}, {format_size(sum(item.size for item in found))}")
