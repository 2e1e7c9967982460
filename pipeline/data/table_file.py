"""Reads the cells of CSV, TSV and Parquet files, as spreadsheets, pandas and R write them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.names import escape_name
from pipeline.errors import DatasetError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")

Cell = str | list[Any] | None

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The names that pandas gives to an index column: by to_csv, by read_csv of that, by to_parquet.
_INDEX_COLUMN = re.compile(r"(Unnamed: \d+(\.\d+)*|__index_level_\d+__|)\Z")
_WHOLE = re.compile(r"[+-]?\d+\.0+\Z")


@dataclass(frozen=True)
class Table:
    """The cells of a file.

    Attributes:
        names: of the columns, without blanks around them; columns without a name are left out.
        rows: cells in the order of the names.
        notes: what a reader must know, a line each.
    """

    names: list[str]
    rows: list[list[Cell]]
    notes: tuple[str, ...]


def read_table(location: Path, wanted: Collection[str]) -> Table:
    """Read a file.

    Args:
        location: a CSV, TSV or Parquet file.
        wanted: columns that it should have; they tell which character separates its cells.

    Raises:
        DatasetError: if it cannot be read as its suffix says.
    """
    notes: list[str] = []
    if location.suffix.lower() == ".parquet":
        names, rows = _read_parquet(location)
    else:
        names, rows, notes = _read_text(location, wanted)
    kept = [i for i, name in enumerate(names) if not _INDEX_COLUMN.match(name)]
    if kept != list(range(len(names))):
        blank = all(not row[i] for row in rows for i in range(len(names)) if i not in kept)
        if not blank:
            notes.append(f"{escape_name(location.name)}: a column without a name, as of an index, is passed over")
    return Table([names[i] for i in kept], [[row[i] for i in kept] for row in rows], tuple(notes))


def normal_number(text: str) -> str:
    """Return a whole number without its decimals, so that 1.0 and 1 are one label; other texts as they are."""
    return str(int(text.partition(".")[0])) if _WHOLE.match(text) else text


def _read_text(location: Path, wanted: Collection[str]) -> tuple[list[str], list[list[Cell]], list[str]]:
    name = escape_name(location.name)
    try:
        data = location.read_bytes()
        encoding = _encoding(data)
        text = data.decode(encoding)
        delimiter, text = _find_delimiter(text, location.suffix.lower(), wanted)
        records = [record for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if record]
    except (OSError, UnicodeError, csv.Error) as err:
        raise DatasetError(
            f"{name}: expected a CSV file in UTF-8, or in UTF-16 with a byte order mark. Received: {err}"
        ) from err
    names = [cell.strip() for cell in records[0]] if records else []
    rows = [_fitted(record, len(names)) for record in records[1:]]
    uneven = [number for number, row in enumerate(rows, 1) if len(row) != len(names)]
    refuse(name, f"{len(names)} cells in every row", "more or fewer in row", uneven)
    notes = []
    if delimiter != ("\t" if location.suffix.lower() == ".tsv" else ","):
        notes.append(f"{name}: its cells are separated by {_DELIMITERS[delimiter]}")
    if not encoding.startswith("utf-8"):
        notes.append(f"{name}: its text is {encoding.upper()}")
    return names, [[_blank_to_none(cell) for cell in row] for row in rows], notes


def _encoding(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return "utf-16-le"
    return "utf-16-be" if data[:1] == b"\0" and data[1:2] != b"\0" else "utf-8"


def _find_delimiter(text: str, suffix: str, wanted: Collection[str]) -> tuple[str, str]:
    """Return the character between the cells, and the text without a line that names it, as Excel writes it."""
    first, _, rest = text.partition("\n")
    named = re.fullmatch(r'"?sep=(.)"?\r?', first)
    if named and named[1] in _DELIMITERS:
        return named[1], rest
    usual = "\t" if suffix == ".tsv" else ","
    best, most = usual, (-1, -1)
    for delimiter in (usual, *(other for other in _DELIMITERS if other != usual)):
        header = next(iter(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), [])
        names = [cell.strip() for cell in header]
        score = (sum(name in names for name in wanted), len(names))
        if score > most:
            best, most = delimiter, score
    return best, text


def _fitted(record: list[str], count: int) -> list[str]:
    """Return a record without blank cells beyond its columns."""
    while len(record) > count and not record[-1].strip():
        record = record[:-1]
    return record


def _blank_to_none(cell: str) -> str | None:
    return cell.strip() or None


def _read_parquet(location: Path) -> tuple[list[str], list[list[Cell]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(location)
        columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    except (OSError, ValueError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{escape_name(location.name)}: expected a Parquet file. Received: {err}") from err
    return [name.strip() for name in table.column_names], [list(row) for row in zip(*columns, strict=True)]


def _cell(value: Any) -> Cell:
    if value is None or value != value:  # NaN, which is how some programs write a blank number
        return None
    if isinstance(value, list):
        return value
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with one blank becomes floats
        value = int(value)
    return str(value).strip() or None


def refuse(table: str, expected: str, what: str, found: Sequence[object], hint: str = "", *, shown: int = 5) -> None:
    """Raise DatasetError if anything was found, naming the first few."""
    if found:
        named = ", ".join(str(item) for item in found[:shown])
        more = f" and {len(found) - shown} more" if len(found) > shown else ""
        raise DatasetError(f"{table}: expected {expected}. Received: {what}{' ' if what else ''}{named}{more}{hint}")
