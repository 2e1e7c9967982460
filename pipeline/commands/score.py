"""`score`: a folder of images to a CSV of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options.folders import add_folders, existing_store
from pipeline.commands.options.paths import check_folder, check_output
from pipeline.commands.options.precision import add_precision


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("score", help="predict every image of a folder into a CSV")
    command.add_argument("model", metavar="NAME[/VERSION]", help="such as eyes, eyes/3 or eyes/candidate")
    command.add_argument("folder", type=Path, help="is walked with all its subfolders")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="replaced if it exists")
    add_precision(command)
    add_folders(command)
    command.set_defaults(command=_score)


def _score(arguments: argparse.Namespace) -> None:
    check_folder(arguments.folder, "a folder of images")
    check_output(arguments.out)
    store = existing_store(arguments)
    name, version = store.resolve(arguments.model)
    from pipeline.evaluation.score_folder import score_folder

    scored = score_folder(
        store, name, version, folder=arguments.folder, out=arguments.out, precision=arguments.precision
    )
    print(
        f"scored: {scored.images} images by {name}/{version} at {scored.precision}, {scored.errors} could not be read"
    )
    if scored.left_out:
        print(scored.left_out)
    print(f"written: {arguments.out}")
