"""`verify`: compare a published version with its recorded probabilities."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.runtime import RUNTIMES
from pipeline.commands.options.folders import add_folders, existing_store
from pipeline.commands.options.paths import check_dataset


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("verify", help="run a version's recorded images and compare the probabilities")
    command.add_argument(
        "model",
        metavar="NAME[/VERSION]",
        help=f"such as eyes, eyes/3 or eyes/candidate; it runs on {', '.join(RUNTIMES)}",
    )
    command.add_argument("--data", type=Path, help="where the run's images are now, if they have been moved")
    add_folders(command)
    command.set_defaults(command=_verify)


def _verify(arguments: argparse.Namespace) -> None:
    if arguments.data is not None:
        check_dataset(arguments.data)
    store = existing_store(arguments)
    name, version = store.resolve(arguments.model)
    from pipeline.publishing.verify_published import verify_published

    for comparison in verify_published(store, arguments.runs_dir, name, version, data=arguments.data):
        found = comparison.deviation
        words = (
            []
            if found is None
            else [
                f"{found.images} images on {found.engine} at {found.precision}, at most {found.max_deviation:.1e} from "
                f"the recorded probabilities, {found.changed_predictions} predictions changed"
            ]
        )
        print(f"{comparison.what}: {'; '.join([*words, *filter(None, [comparison.note])])}")
    print(f"verified: {name}/{version}")
