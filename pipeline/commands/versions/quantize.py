"""`quantize`: publish a version again with an int8 model, where that proves equivalent to float32."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options.folders import add_folders, check_folders, existing_store
from pipeline.commands.options.paths import check_dataset
from pipeline.commands.output.outcome import describe_outcome

MINUTES = 10.0  # export.int8_minutes


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("quantize", help="publish a version again with an int8 model that proves equivalent")
    command.add_argument("model", metavar="NAME[/VERSION]", help="such as eyes, eyes/3 or eyes/candidate")
    command.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="at least 363 pictures such as the model is asked for, to make and judge int8 by; in folders named as its "
        "classes they judge by labels too (default: the images of the version's run)",
    )
    command.add_argument(
        "--minutes",
        type=_minutes,
        default=MINUTES,
        help="to look for layers that hurt, where plain int8 is not equivalent; 0: no search",
    )
    command.add_argument("--force", action="store_true", help="make the version live whatever the gate says")
    add_folders(command)
    command.set_defaults(command=_quantize)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1440:
        raise argparse.ArgumentTypeError(f"expected minutes from 0 to 1440. Received: {text!r}")
    return value


def _quantize(arguments: argparse.Namespace) -> None:
    if arguments.images is not None:
        check_dataset(arguments.images)
    store = existing_store(arguments)
    name, version = store.resolve(arguments.model)
    check_folders(arguments)
    from pipeline.publishing.precisions.int8 import check_nncf

    check_nncf()
    from pipeline.publishing.gate import Gatekeeper
    from pipeline.publishing.quantize_version import Known, quantize_version
    from pipeline.recipe.gate_settings import Gate

    gatekeeper = Gatekeeper(Gate(), store, arguments.runs_dir, force=arguments.force)
    found = quantize_version(
        name, version, gatekeeper, arguments.runs_dir, images=arguments.images, minutes=arguments.minutes
    )
    if isinstance(found, Known):
        print(
            f"nothing was published: {name}/{found.version} has "
            f"{'that' if arguments.images else 'an'} int8 model already, and it is equivalent to float32"
        )
        return
    print(f"judged by: {found.pictures}")
    for verdict in found.verification.equivalences or ():
        print(f"{verdict.precision} on {verdict.engine}: {verdict.words}")
    if found.verification.floating_point:
        print(f"left in floating point: {', '.join(found.verification.floating_point)}")
    print(f"published: {store.version_path(name, found.version)}")
    for line in describe_outcome(found.gate, name, found.version):
        print(line)
