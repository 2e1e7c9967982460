"""The scores of images as a Parquet part, and the CSV of all parts."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from contract.model import Label
from pipeline.scoring.score_folder import Row, csv_header, csv_row
from pipeline.units.parts import read_part
from pipeline.units.plan import Plan

MERGED_FILE = "_scores.csv"  # readers of Parquet folders pass over names with an underscore


def to_table(rows: Sequence[Row], labels: Sequence[Label]) -> pa.Table:
    """Return the rows of a unit's part."""
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
                writer.writerows(csv_row(row, labels) for row in _read_rows(folder, unit, labels))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _read_rows(folder: Path, unit: int, labels: Sequence[Label]) -> Iterator[Row]:
    table = read_part(folder, unit)
    columns = [table[f"probability_{label.id}"].to_numpy(zero_copy_only=False) for label in labels]
    probabilities = np.stack(columns, axis=1).astype(np.float32) if table.num_rows else np.empty((0, len(labels)))
    for path, error, values in zip(table["path"].to_pylist(), table["error"].to_pylist(), probabilities, strict=True):
        yield Row(path, None if error is not None else values, error or "")


def count_rows(folder: Path, plan: Plan) -> tuple[int, int]:
    """Return the number of scored images and of those with an error, over all parts."""
    errors = sum(
        len(column) - column.null_count
        for unit in range(plan.num_units)
        for column in [read_part(folder, unit, ["error"])["error"]]
    )
    return plan.images - errors, errors


def _floats(values: Sequence[np.float32 | None]) -> pa.Array:
    return pa.array([None if value is None else float(value) for value in values], pa.float32())
