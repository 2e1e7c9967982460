"""The Parquet file of one unit, written by temporary name and rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from socket import gethostname

import pyarrow as pa
import pyarrow.parquet as pq

from contract.files.durable import sync_directory
from contract.files.regular import read_regular
from pipeline.errors import LostImageError
from pipeline.units.plan import Plan

_PLAN_KEY, _UNIT_KEY = b"fovea.plan", b"fovea.unit"


def part_path(folder: Path, unit: int) -> Path:
    """Return the path of a unit's part."""
    return folder / f"part-{unit:06}.parquet"


def write_part(folder: Path, plan: Plan, unit: int, rows: pa.Table) -> None:
    """Write the part of a unit; it appears whole, under its name.

    Raises:
        OSError: if it cannot be written.
    """
    table = rows.replace_schema_metadata({_PLAN_KEY: plan.sha256.encode(), _UNIT_KEY: str(unit).encode()})
    path = part_path(folder, unit)
    temporary = folder / f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        pq.write_table(table, temporary, compression="zstd")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(folder)


def is_done(folder: Path, plan: Plan, unit: int) -> bool:
    """Return whether a unit's part is there, whole and of this plan."""
    try:
        data = read_regular(part_path(folder, unit))
        found = pq.read_table(pa.BufferReader(data))
    except (OSError, pa.ArrowException):
        return False
    metadata = found.schema.metadata or {}
    return (
        metadata.get(_PLAN_KEY) == plan.sha256.encode()
        and metadata.get(_UNIT_KEY) == str(unit).encode()
        and found.num_rows == plan.size_of(unit)
    )


def read_part(folder: Path, unit: int, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of a unit.

    Raises:
        OSError: if the part cannot be read.
    """
    return pq.read_table(part_path(folder, unit), columns=columns)


def check_here(folder: Path) -> None:
    """Refuse a folder that this machine does not see.

    Raises:
        LostImageError: naming folder and machine.
    """
    if not folder.is_dir():
        raise LostImageError(
            f"{folder}: no such folder on {gethostname()}; all processes read and write the same folders"
        )


def check_filled(folder: Path) -> None:
    """Refuse a folder of images that this machine does not see, or sees empty: a share that went away leaves it so.

    Raises:
        LostImageError: naming folder and machine.
    """
    check_here(folder)
    try:
        with os.scandir(folder) as entries:
            received = None if next(entries, None) else "an empty folder"
    except OSError as err:
        received = err.strerror or str(err)
    if received is not None:
        raise LostImageError(
            f"{folder}: expected the images that were listed, on {gethostname()}. Received: {received}; if it is a "
            "share, see that it is there again"
        )


def refuse_lost_unit(paths: Sequence[str], reasons: Sequence[str]) -> None:
    """Refuse a unit of several images of which the operating system gives none: each was listed by this same command.

    Args:
        paths: of its images.
        reasons: why those that the operating system does not give cannot be read.

    Raises:
        LostImageError: in place of a part that is nothing but errors, and counts as done.
    """
    if 1 < len(paths) == len(reasons):
        raise LostImageError(
            f"{paths[0]}: {reasons[0]}; expected files that can be read, as they were listed. Received: none of "
            f"{len(paths)} of this unit. If they are on a share, see that it is there again; files that are gone for "
            "good, or may not be read, have to leave the set"
        )
