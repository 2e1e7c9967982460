"""Facts of images as rows of a Parquet part: a typed column for each field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
from pydantic import TypeAdapter

from pipeline.audit.checking import Checked, Problem

_PATH, _CODE, _MESSAGE = "path", "code", "message"
_PLAIN: Mapping[type, pa.DataType] = {
    str: pa.string(),
    bytes: pa.binary(),
    int: pa.int64(),
    float: pa.float64(),
}
_CHECKED = TypeAdapter(Checked)


def to_table(paths: Sequence[str], checked: Sequence[Checked | Problem]) -> pa.Table:
    """Return a row for each image: its facts, or code and message of why it cannot be used."""
    return pa.Table.from_pylist(
        [_to_row(path, found) for path, found in zip(paths, checked, strict=True)], schema=_schema()
    )


def from_table(table: pa.Table) -> Iterator[Checked | Problem]:
    """Yield what `to_table` was given."""
    for row in table.to_pylist():
        path, code, message = (row.pop(name) for name in (_PATH, _CODE, _MESSAGE))
        yield _CHECKED.validate_python(row) if code is None else Problem(path, code, message)


def _to_row(path: str, found: Checked | Problem) -> dict[str, Any]:
    return {_PATH: path, **dataclasses.asdict(found)}


def _schema() -> pa.Schema:
    facts = [(name, _type_of(hint)) for name, hint in get_type_hints(Checked).items()]
    return pa.schema([(_PATH, pa.string()), *facts, (_CODE, pa.string()), (_MESSAGE, pa.string())])


def _type_of(hint: Any) -> pa.DataType:
    if get_origin(hint) is tuple:
        return pa.list_(_type_of(get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return pa.struct([(name, _type_of(one)) for name, one in get_type_hints(hint).items()])
    return _PLAIN[hint]
