"""CSV and Parquet files that list images: one row an image, paths relative to the file."""

from __future__ import annotations

import csv
import difflib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Column

TABLE_SUFFIXES = (".csv", ".parquet")
COLUMNS: tuple[Column, ...] = get_args(Column)
REQUIRED: tuple[Column, ...] = ("path", "label")
_SHOWN = 5  # rows or paths named in an error


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row, every cell stripped; None where the table has no such column or the cell is blank.

    Attributes:
        line: counted from 1 for the first image, to find it again.
        path: with forward slashes, without dots that change nothing.
        label: the class.
        group: what must stay on one side of a split.
        split: as written.
    """

    line: int
    path: str
    label: str
    group: str | None
    split: str | None


class TableSource:
    """Files that a table names, below the table's folder."""

    def __init__(self, location: Path) -> None:
        self.location = location

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        return (self.location.parent / path).read_bytes()


def read_rows(location: Path, columns: Mapping[Column, str] | None = None) -> list[TableRow]:
    """Read the rows of a CSV or Parquet file and check every cell and every path.

    Args:
        location: the file.
        columns: names that differ from path, label, group and split. When some are given, further columns are passed
            over; else a column that is not known is an error, because it may be a misspelt group.

    Raises:
        DatasetError: naming the columns, rows or paths that are wrong.
    """
    names, records = _read_csv(location) if location.suffix.lower() == ".csv" else _read_parquet(location)
    found = _find_columns(location.name, names, columns or {})
    rows = [_row(number, record, found) for number, record in enumerate(records, 1)]
    if not rows:
        raise DatasetError(f"{location.name}: expected one row an image. Received: no rows")
    for column in (*REQUIRED, "group"):
        if column in found:
            blank = [row.line for row in rows if not getattr(row, column)]
            _refuse(location.name, f"a {column} in every row", "none in row", blank)
    _check_paths(location, rows)
    _check_listed_once(location.name, rows)
    return rows


def _read_csv(location: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        with location.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="")
            records = list(reader)
            names = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DatasetError(f"{location.name}: expected a CSV file in UTF-8. Received: {err}") from err
    uneven = [number for number, record in enumerate(records, 1) if "" in record or None in record.values()]
    _refuse(location.name, f"{len(names)} cells in every row", "more or fewer in row", uneven)
    return names, records


def _read_parquet(location: Path) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(location)
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{location.name}: expected a Parquet file. Received: {err}") from err
    return list(table.column_names), table.to_pylist()


def _find_columns(table: str, names: Sequence[str], columns: Mapping[Column, str]) -> dict[Column, str]:
    """Return the name in this table of each column that it has."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DatasetError(f"{table}: expected every column once. Received: {', '.join(repeated)} more than once")
    found: dict[Column, str] = {column: columns.get(column, column) for column in COLUMNS}
    missing = [found[column] for column in COLUMNS if (column in REQUIRED or column in columns)]
    missing = [name for name in missing if name not in names]
    unknown = [] if columns else sorted(set(names) - set(COLUMNS))
    if missing or unknown:
        near = [difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.6) for name in unknown]
        reasons = [f"no {name}" for name in missing] + [f"unknown: {name}" for name in unknown]
        reasons += [f"did you mean {match[0]}?" for match in near if match]
        raise DatasetError(
            f"{table}: expected the columns path and label, and at most group and split. Received: "
            f"{', '.join(names) or 'nothing'} ({'; '.join(reasons)}). Columns of other names are given with "
            "--set data.columns.label=NAME; further ones are passed over then"
        )
    return {column: name for column, name in found.items() if name in names}


def _row(line: int, record: Mapping[str, Any], found: Mapping[Column, str]) -> TableRow:
    cells = {column: _cell(record[name]) for column, name in found.items()}
    path = (cells["path"] or "").replace("\\", "/")
    path = str(PurePosixPath(path)) if path else ""
    return TableRow(line, path, cells["label"] or "", cells.get("group"), cells.get("split"))


def _cell(value: Any) -> str | None:
    if value is None or value != value:  # NaN, which is how some programs write a blank number
        return None
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with one blank becomes floats
        value = int(value)
    return str(value).strip() or None


def _check_paths(location: Path, rows: Sequence[TableRow]) -> None:
    paths = [(row, PurePosixPath(row.path)) for row in rows]
    outside = [
        row.path for row, path in paths if path.is_absolute() or ".." in path.parts or ":" in row.path.split("/")[0]
    ]
    _refuse(location.name, "paths below the table's folder", "", outside)
    missing = [row.path for row in rows if not (location.parent / row.path).is_file()]
    _refuse(location.name, "every path to be a file, relative to the table's folder", "no file", missing)


def _check_listed_once(table: str, rows: Sequence[TableRow]) -> None:
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.path].add(row.label)
    torn = [f"{path} as {' and '.join(sorted(found))}" for path, found in labels.items() if len(found) > 1]
    _refuse(table, "one label an image", "", torn)
    counts = Counter(row.path for row in rows)
    _refuse(table, "every image once", "more than once", [path for path, count in counts.items() if count > 1])


def _refuse(table: str, expected: str, what: str, found: Sequence[object]) -> None:
    """Raise DatasetError if anything was found, naming the first few."""
    if found:
        shown = ", ".join(str(item) for item in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DatasetError(f"{table}: expected {expected}. Received: {what}{' ' if what else ''}{shown}{more}")
