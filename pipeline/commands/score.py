"""`score`: a folder of images to a CSV of predictions, or to a folder of parts that a rerun completes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.store import ModelStore
from pipeline.commands.options.executor import (
    add_executor,
    read_executor,
    read_shard,
    read_unit_rows,
    refuse_executor,
)
from pipeline.commands.options.folders import add_folders, existing_store
from pipeline.commands.options.location import parse_location
from pipeline.commands.options.paths import check_folder, check_folder_to_write, check_output
from pipeline.commands.options.precision import add_precision
from pipeline.commands.options.tta import add_tta
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.units.work import Executor, Shard


@dataclass(frozen=True, slots=True)
class Units:
    """How parts are made.

    Attributes:
        rows: images of a part.
        shard: the parts to make; None for all.
        run: makes them.
    """

    rows: int
    shard: Shard | None
    run: Executor


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("score", help="predict every image of a folder into a CSV, or into parts")
    command.add_argument("model", metavar="NAME[/VERSION]", help="such as eyes, eyes/3 or eyes/candidate")
    command.add_argument(
        "folder",
        metavar="FOLDER|URL",
        type=parse_location,
        help="is walked with all its subfolders; or s3://, gs://, abfs://",
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.csv|DIR",
        help="a CSV, replaced if it exists; or a folder of Parquet parts, which a rerun completes, and _scores.csv",
    )
    add_executor(command)
    add_precision(command)
    add_tta(command)
    add_folders(command)
    command.set_defaults(command=_score)


def _score(arguments: argparse.Namespace) -> None:
    if isinstance(arguments.folder, Path):
        check_folder(arguments.folder, "a folder of images")
    if is_file(arguments.out):
        if arguments.out.suffix.lower() == ".parquet":
            raise PipelineError(f"--out: expected FILE.csv, or a folder for Parquet parts. Received: {arguments.out}")
        refuse_executor(arguments, f"expected a folder in --out, for parts. Received: {arguments.out}")
        if not isinstance(arguments.folder, Path):
            raise PipelineError(f"--out: expected a folder, for images in object storage. Received: {arguments.out}")
        check_output(arguments.out)
    else:
        if arguments.tta is not None:
            raise PipelineError(f"--tta: expected FILE.csv in --out. Received: a folder for parts, {arguments.out}")
        check_folder_to_write(arguments.out, "--out")
    how = Units(read_unit_rows(arguments), read_shard(arguments.shard), read_executor(arguments))
    store = existing_store(arguments)
    name, version = store.resolve(arguments.model)
    if is_file(arguments.out):
        _score_to_file(arguments, store, name, version)
    else:
        _score_to_parts(arguments, store, name, version, how)


def is_file(out: Path) -> bool:
    """Return whether `--out` names a CSV: with a suffix, and no folder."""
    return bool(out.suffix) and not out.is_dir()


def _score_to_file(arguments: argparse.Namespace, store: ModelStore, name: str, version: int) -> None:
    from pipeline.scoring.score_folder import score_folder

    scored = score_folder(
        store,
        name,
        version,
        folder=arguments.folder,
        out=arguments.out,
        precision=arguments.precision,
        tta=arguments.tta,
    )
    print(
        f"scored: {scored.images} images by {name}/{version} at {scored.precision}, {scored.errors} could not be read"
    )
    if scored.changed_class is not None:
        print(
            f"averaged over {arguments.tta} views of each image (test-time augmentation), which the service does not "
            f"do: {scored.changed_class} of {scored.images} images have another class than by the image alone"
        )
    if scored.left_out:
        print(scored.left_out)
    print(f"written: {arguments.out}")


def _score_to_parts(arguments: argparse.Namespace, store: ModelStore, name: str, version: int, how: Units) -> None:
    from pipeline.scoring.score_units import score_units

    scored = score_units(
        store,
        name,
        version,
        location=arguments.folder,
        out=arguments.out,
        unit_rows=how.rows,
        precision=arguments.precision,
        shard=how.shard,
        run=how.run,
    )
    precision = scored.made.plan.facts["precision"]
    print(f"units: {scored.made.describe(f'scored by {name}/{version} at {precision}')}")
    if scored.left_out:
        print(scored.left_out)
    if scored.merged is not None:
        print(f"scored: {scored.images} images, {scored.errors} could not be read")
        print(f"written: {scored.merged}")
