"""`score`: a folder of images to a CSV of predictions, or to a folder of parts that a rerun completes."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.store import ModelStore
from pipeline.commands.options.folders import add_folders, existing_store
from pipeline.commands.options.paths import check_folder, check_folder_to_write, check_output
from pipeline.commands.options.precision import add_precision
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.scoring.units import Shard

_UNIT_ROWS = 1000
_MAX_UNIT_ROWS = 1_000_000


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("score", help="predict every image of a folder into a CSV, or into parts")
    command.add_argument("model", metavar="NAME[/VERSION]", help="such as eyes, eyes/3 or eyes/candidate")
    command.add_argument("folder", type=Path, help="is walked with all its subfolders")
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.csv|DIR",
        help="a CSV, replaced if it exists; or a folder of Parquet parts, which a rerun completes, and _scores.csv",
    )
    command.add_argument(
        "--unit-rows", type=int, metavar="N", help=f"images of a part in a folder (default {_UNIT_ROWS})"
    )
    command.add_argument(
        "--shard", metavar="I/N", help="score each N-th part from I on, 0 to N - 1: one of N processes, such as 0/4"
    )
    add_precision(command)
    add_folders(command)
    command.set_defaults(command=_score)


def _score(arguments: argparse.Namespace) -> None:
    check_folder(arguments.folder, "a folder of images")
    if is_file(arguments.out):
        if arguments.out.suffix.lower() == ".parquet":
            raise PipelineError(f"--out: expected FILE.csv, or a folder for Parquet parts. Received: {arguments.out}")
        _refuse_options_of_units(arguments)
        check_output(arguments.out)
    else:
        check_folder_to_write(arguments.out, "--out")
    shard = read_shard(arguments.shard)
    unit_rows = _UNIT_ROWS if arguments.unit_rows is None else arguments.unit_rows
    if not 1 <= unit_rows <= _MAX_UNIT_ROWS:
        raise PipelineError(f"--unit-rows: expected 1 to {_MAX_UNIT_ROWS}. Received: {unit_rows}")
    store = existing_store(arguments)
    name, version = store.resolve(arguments.model)
    if is_file(arguments.out):
        _score_to_file(arguments, store, name, version)
    else:
        _score_to_parts(arguments, store, name, version, unit_rows, shard)


def is_file(out: Path) -> bool:
    """Return whether `--out` names a CSV: with a suffix, and no folder."""
    return bool(out.suffix) and not out.is_dir()


def _refuse_options_of_units(arguments: argparse.Namespace) -> None:
    for option in ("unit_rows", "shard"):
        if getattr(arguments, option) is not None:
            raise PipelineError(
                f"--{option.replace('_', '-')}: expected a folder in --out, for parts. Received: {arguments.out}"
            )


def read_shard(text: str | None) -> Shard | None:
    """Return the shard that `--shard` names.

    Raises:
        PipelineError: if it is none.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if found is None or int(found[1]) >= int(found[2]):
        raise PipelineError(f"--shard: expected I/N with I from 0 to N - 1, such as 0/4. Received: {text}")
    from pipeline.scoring.units import Shard

    return Shard(int(found[1]), int(found[2]))


def _score_to_file(arguments: argparse.Namespace, store: ModelStore, name: str, version: int) -> None:
    from pipeline.scoring.score_folder import score_folder

    scored = score_folder(
        store, name, version, folder=arguments.folder, out=arguments.out, precision=arguments.precision
    )
    print(
        f"scored: {scored.images} images by {name}/{version} at {scored.precision}, {scored.errors} could not be read"
    )
    if scored.left_out:
        print(scored.left_out)
    print(f"written: {arguments.out}")


def _score_to_parts(
    arguments: argparse.Namespace, store: ModelStore, name: str, version: int, unit_rows: int, shard: Shard | None
) -> None:
    from pipeline.scoring.score_units import score_units

    scored = score_units(
        store,
        name,
        version,
        folder=arguments.folder,
        out=arguments.out,
        unit_rows=unit_rows,
        precision=arguments.precision,
        shard=shard,
    )
    plan = scored.plan
    print(
        f"units: {scored.done} scored by {name}/{version} at {plan.precision}, {scored.kept} were there, "
        f"{scored.missing} of {plan.num_units} left to other shards"
    )
    if scored.left_out:
        print(scored.left_out)
    if scored.merged is not None:
        print(f"scored: {scored.images} images, {scored.errors} could not be read")
        print(f"written: {scored.merged}")
