"""The Parquet file of one unit, written by temporary name and rename, and the CSV of all of them."""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contract.durable import sync_directory
from contract.model import Label
from contract.regular import read_regular
from pipeline.scoring.plan import Plan
from pipeline.scoring.score_folder import Row, csv_header, csv_row

MERGED_FILE = "_scores.csv"  # readers of Parquet folders pass over names with an underscore
_PLAN_KEY, _UNIT_KEY = b"fovea.plan", b"fovea.unit"


def part_path(folder: Path, unit: int) -> Path:
    """Return the path of a unit's part."""
    return folder / f"part-{unit:06}.parquet"


def write_part(folder: Path, plan: Plan, unit: int, rows: Sequence[Row], labels: Sequence[Label]) -> None:
    """Write the part of a unit; it appears whole, under its name.

    Raises:
        OSError: if it cannot be written.
    """
    table = _to_table(rows, labels).replace_schema_metadata(
        {_PLAN_KEY: plan.sha256.encode(), _UNIT_KEY: str(unit).encode()}
    )
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
        and found.num_rows == min(plan.unit_rows, plan.images - unit * plan.unit_rows)
    )


def merge_parts(folder: Path, plan: Plan, labels: Sequence[Label]) -> Path:
    """Write the CSV of all parts, in the order of the listing; it appears whole, under its name.

    Raises:
        OSError: if a part cannot be read or the CSV not be written.
    """
    path = folder / MERGED_FILE
    temporary = folder / f".{MERGED_FILE}.{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(csv_header(labels))
            for unit in range(plan.num_units):
                writer.writerows(csv_row(row, labels) for row in read_part(folder, unit, labels))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_part(folder: Path, unit: int, labels: Sequence[Label]) -> Iterator[Row]:
    """Yield the rows of a unit.

    Raises:
        OSError: if the part cannot be read.
    """
    table = pq.read_table(part_path(folder, unit))
    columns = [table[f"probability_{label.id}"].to_numpy(zero_copy_only=False) for label in labels]
    probabilities = np.stack(columns, axis=1).astype(np.float32) if table.num_rows else np.empty((0, len(labels)))
    for path, error, values in zip(table["path"].to_pylist(), table["error"].to_pylist(), probabilities, strict=True):
        yield Row(path, None if error is not None else values, error or "")


def count_rows(folder: Path, plan: Plan) -> tuple[int, int]:
    """Return the number of scored images and of those with an error, over all parts."""
    errors = sum(
        len(column) - column.null_count
        for unit in range(plan.num_units)
        for column in [pq.read_table(part_path(folder, unit), columns=["error"])["error"]]
    )
    return plan.images - errors, errors


def _to_table(rows: Sequence[Row], labels: Sequence[Label]) -> pa.Table:
    best = [None if row.probabilities is None else labels[int(row.probabilities.argmax())] for row in rows]
    columns = {
        "path": pa.array([row.path for row in rows], pa.string()),
        "id": pa.array([label.id if label else None for label in best], pa.string()),
        "label": pa.array([label.name if label else None for label in best], pa.string()),
        "probability": _floats([None if row.probabilities is None else row.probabilities.max() for row in rows]),
    }
    for index, label in enumerate(labels):
        values = [None if row.probabilities is None else row.probabilities[index] for row in rows]
        columns[f"probability_{label.id}"] = _floats(values)
    columns["error"] = pa.array([row.error or None for row in rows], pa.string())
    return pa.table(columns)


def _floats(values: Sequence[np.float32 | None]) -> pa.Array:
    return pa.array([None if value is None else float(value) for value in values], pa.float32())
