"""Tables that list images: one row an image, paths relative to the table, or below its folder."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

from pipeline.data.folder_source import file_size, find_folders, list_files, read_head
from pipeline.data.image_files import IMAGE_SUFFIXES
from pipeline.data.names import escape_name, unescape_name
from pipeline.data.table_file import Cell, Table, normal_number, read_table, refuse
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Column, Data

COLUMNS: tuple[Column, ...] = get_args(Column)
REQUIRED: tuple[Column, ...] = ("path", "label")

_ONE_CLASS = "Fovea puts an image into one class"
_LIST = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_MANY_NUMBERS = 10  # different whole numbers that may still be classes, however few rows each has


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row, every cell stripped; None where the table has no such column or the cell is blank.

    Attributes:
        line: counted from 1 for the first image, to find it again.
        path: below the table's folder, with forward slashes.
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
        return (self.location.parent / unescape_name(path)).read_bytes()

    def read_head(self, path: str) -> bytes:
        """Return the first bytes of a file."""
        return read_head(self.location.parent / unescape_name(path))

    def size(self, path: str) -> int:
        """Return the number of bytes of a file; -1 if it is gone."""
        return file_size(self.location.parent / unescape_name(path))

    def __getstate__(self) -> dict[str, Path]:
        """Return the whole path."""
        return {"location": self.location.absolute()}


def read_rows(location: Path, data: Data) -> tuple[list[TableRow], tuple[str, ...]]:
    """Read the rows of a table and check every cell and every path; also return what a reader must know.

    Args:
        location: the file.
        data: names of columns that differ from path, label, group and split, and what the paths lack. When columns are
            named, further ones are passed over; else a column that is not known is an error, because it may be a
            misspelt group.

    Raises:
        DatasetError: naming the columns, rows or paths that are wrong.
    """
    name = escape_name(location.name)
    table = read_table(location, [data.columns.get(column, column) for column in REQUIRED])
    found = _find_columns(name, table, data.columns)
    if not table.rows:
        raise DatasetError(f"{name}: expected one row an image. Received: no rows")
    cells = {column: [row[table.names.index(text)] for row in table.rows] for column, text in found.items()}
    _check_lists(name, cells["label"])
    for column in (*REQUIRED, "group"):
        if column in cells:
            blank = [line for line, cell in enumerate(cells[column], 1) if not cell]
            refuse(name, f"a {column} in every row", "none in row", blank)
    paths = _find_paths(location, [str(cell) for cell in cells["path"]], data)
    nothing: list[Cell] = [None] * len(paths)
    rows = [
        TableRow(line, path, normal_number(str(label)), _text(group, normal_number), _text(split, str))
        for line, (path, label, group, split) in enumerate(
            zip(paths, cells["label"], cells.get("group", nothing), cells.get("split", nothing), strict=True), 1
        )
    ]
    _check_listed_once(name, rows)
    _check_task(name, [row.label for row in rows])
    return rows, table.notes


def _text(cell: Cell, change: Callable[[str], str]) -> str | None:
    return change(str(cell)) if cell else None


def _find_columns(name: str, table: Table, columns: Mapping[Column, str]) -> dict[Column, str]:
    """Return the name in this table of each column that it has."""
    names = table.names
    if repeated := sorted(text for text, count in Counter(names).items() if count > 1):
        raise DatasetError(f"{name}: expected every column once. Received: {', '.join(repeated)} more than once")
    found: dict[Column, str] = {column: columns.get(column, column) for column in COLUMNS}
    missing = [found[column] for column in COLUMNS if (column in REQUIRED or column in columns)]
    missing = [text for text in missing if text not in names]
    unknown = [] if columns else sorted(set(names) - set(COLUMNS))
    if missing or unknown:
        near = [difflib.get_close_matches(text, COLUMNS, n=1, cutoff=0.6) for text in unknown]
        reasons = [f"no {text}" for text in missing] + [f"unknown: {text}" for text in unknown]
        reasons += [f"did you mean {match[0]}?" for match in near if match]
        raise DatasetError(
            f"{name}: expected the columns path and label, and at most group and split. Received: "
            f"{', '.join(names) or 'nothing'} ({'; '.join(reasons)}). Columns of other names are given with "
            f"--set data.columns.label=NAME; further ones are passed over then{_explain_indicators(table, found)}"
        )
    return {column: text for column, text in found.items() if text in names}


def _explain_indicators(table: Table, found: Mapping[Column, str]) -> str:
    """Say what is wrong with a table that has a column of 0 and 1 for each class."""
    if found["label"] in table.names or not table.rows:
        return ""
    indicators = [
        name for i, name in enumerate(table.names) if {str(row[i]) for row in table.rows} <= {"0", "1", "0.0", "1.0"}
    ]
    if len(indicators) < 2:
        return ""
    return f". {_ONE_CLASS}: columns of 0 and 1 ({', '.join(indicators)}) must become one column with the class's name"


def _find_paths(location: Path, texts: Sequence[str], data: Data) -> list[str]:
    """Return the path of each image below the table's folder."""
    name, folder = escape_name(location.name), location.parent
    paths = [_below(text, folder, data) for text in texts]
    outside = [text for text, path in zip(texts, paths, strict=True) if path is None]
    refuse(name, "paths relative to the table's folder, or absolute ones below it", "", outside)
    found = [_existing(text, path or PurePosixPath(), folder) for text, path in zip(texts, paths, strict=True)]
    missing = [text for text, path in zip(texts, found, strict=True) if path is None]
    if missing:
        hint = _explain_missing(missing[0], folder)
        refuse(name, "every path to be a file, relative to the table's folder", "no file", missing, hint)
    return [str(path) for path in found]


def _below(text: str, folder: Path, data: Data) -> PurePosixPath | None:
    """Return a path below the table's folder, completed as the recipe says; None for one outside of it."""
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute():
        tops = (str(folder.absolute()), os.path.realpath(folder))
        inside = [path.relative_to(top) for top in tops if path.is_relative_to(top)]
        if not inside:
            return None
        path = inside[0]
    elif data.folder:
        path = PurePosixPath(data.folder) / path
    if ".." in path.parts or (path.parts and ":" in path.parts[0]):
        return None
    if data.suffix and path.name and not path.name.lower().endswith(data.suffix.lower()):
        path = path.with_name(path.name + data.suffix)
    return path


def _existing(text: str, path: PurePosixPath, folder: Path) -> str | None:
    """Return a file's path as it is shown; also that of a name that another command has escaped."""
    if _is_file(folder / path):
        return escape_name(str(path))
    if "\\x" in text:
        escaped = PurePosixPath(unescape_name(text))
        if not escaped.is_absolute() and ".." not in escaped.parts and _is_file(folder / escaped):
            return escape_name(str(escaped))
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def _explain_missing(text: str, folder: Path) -> str:
    """Say which file a path may mean: one with a suffix, in another folder, or with other capitals."""
    wanted = PurePosixPath(text.replace("\\", "/"))
    try:
        files = [PurePosixPath(path) for path in list_files(find_folders(folder))]
    except DatasetError:
        return ""
    same = [path for path in files if str(path).lower() == str(wanted).lower()]
    if same:
        return f"; {same[0]} is there: capitals count"
    for path in files:
        if path.suffix.lower() not in IMAGE_SUFFIXES or wanted.name not in (path.name, path.name[: -len(path.suffix)]):
            continue
        options = [f"--set data.suffix={path.suffix}"] if wanted.name != path.name else []
        top = path.parent
        if top.parts[len(top.parts) - len(wanted.parent.parts) :] == wanted.parent.parts:
            top = PurePosixPath(*top.parts[: len(top.parts) - len(wanted.parent.parts)])
            options += [f"--set data.folder={top}"] if top.parts else []
            return f"; {path} is there: {' '.join(options)}"
    return ""


def _check_listed_once(table: str, rows: Sequence[TableRow]) -> None:
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.path].add(row.label)
    torn = [f"{path} as {' and '.join(sorted(found))}" for path, found in labels.items() if len(found) > 1]
    refuse(table, "one label an image", "", torn)
    counts = Counter(row.path for row in rows)
    refuse(table, "every image once", "more than once", [path for path, count in counts.items() if count > 1])


def _check_lists(table: str, labels: Iterable[Cell]) -> None:
    lists = [str(label) for label in labels if isinstance(label, list) or (label and _LIST.fullmatch(label))]
    refuse(table, f"one label an image: {_ONE_CLASS}", "lists, such as", lists, _several_labels_hint())


def _check_task(table: str, labels: Sequence[str]) -> None:
    """Refuse labels of another task: numbers to predict, several labels an image."""
    distinct = sorted(set(labels))
    if all(_NUMBER.fullmatch(label) for label in distinct):
        fractions = any(not label.lstrip("+-").isdigit() for label in distinct)
        few_each = 3 * len(distinct) > len(labels)
        if (fractions and len(distinct) > 2 and few_each) or (
            len(distinct) > _MANY_NUMBERS and (fractions or few_each)
        ):
            refuse(
                table,
                f"a class in every row: {_ONE_CLASS}",
                f"{len(distinct)} different numbers in {len(labels)} rows, which look like a quantity to predict:",
                distinct,
                "; name ranges of it as classes, such as low and high",
            )
    refuse(table, f"one label an image: {_ONE_CLASS}", "several in", _find_joined(distinct), _several_labels_hint())


def _find_joined(labels: Sequence[str]) -> list[str]:
    """Return labels that are made of others."""
    single = set(labels)
    for separator in ("|", ";", ",", "+", "&", "/", " "):
        parts = {
            label: [part.strip() for part in label.split(separator) if part.strip()]
            for label in labels
            if separator in label
        }
        holders = Counter(part for label in labels for part in set(parts.get(label, [label])))
        joined = [
            label
            for label, found in parts.items()
            if len(found) > 1 and all(part in single or (separator in "|;," and holders[part] > 1) for part in found)
        ]
        if joined:
            return joined
    return []


def _several_labels_hint() -> str:
    return "; keep one, or give each combination a name of its own"
