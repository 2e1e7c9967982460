"""Class names from a file, in the forms that people have them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.files.regular import read_regular
from contract.model import Label
from pipeline.errors import DatasetError

log = logging.getLogger(__name__)

_NUMBERED = re.compile(r"(\d+)[ \t]+(\S.*)")  # Teachable Machine's: "0 cats"
_FORMS = (
    "a text file with one name a line, or an index and a name; JSON: a list of names, of [id, name] pairs or of "
    "{id, name} objects; "
    "Keras's class index {'0': ['n01440764', 'tench']}; or ImageDataGenerator's class_indices {'cat': 0}"
)


def read_labels(path: Path) -> tuple[Label, ...]:
    """Return the labels of a file in class-index order.

    Raises:
        DatasetError: if the file cannot be read, is in no known form, or leaves an index out or names one twice.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise DatasetError(f"labels: {path.name} cannot be read: {err}") from err
    if path.suffix.lower() != ".json":
        names = [line.strip() for line in text.splitlines()]
        return _distinct([_label(name, path) for name in _without_index([n for n in names if n], path)], path)
    try:
        document = json.loads(text)
    except ValueError as err:
        raise DatasetError(f"labels: {path.name} is not JSON: {err}") from err
    if isinstance(document, Mapping):
        document = _in_index_order(document, path)
    if not isinstance(document, list):
        raise DatasetError(f"labels: expected {_FORMS}. Received: {type(document).__name__}")
    return _distinct([_label(item, path) for item in document], path)


def number_labels(count: int) -> tuple[Label, ...]:
    """Return numbered labels for classes without names."""
    return tuple(Label(f"class_{i}", f"class {i}") for i in range(count))


def _without_index(names: list[str], path: Path) -> list[str]:
    """Return names without the index that each line starts with, if every line has its own."""
    found = [_NUMBERED.fullmatch(name) for name in names]
    if not names or not all(found):
        return names
    numbers = [int(match[1]) for match in found if match]
    if numbers == list(range(len(names))):
        return [match[2] for match in found if match]
    log.warning(
        "%s: each line starts with a number, but not 0, 1, 2 in order: the numbers stay in the names.", path.name
    )
    return names


def _in_index_order(document: Mapping[str, Any], path: Path) -> list[Any]:
    if all(isinstance(value, int) and not isinstance(value, bool) for value in document.values()):
        by_index: dict[Any, Any] = {}
        for name, index in document.items():
            if index in by_index:
                raise DatasetError(f"labels: {path.name}: expected each index once. Received: {index} twice")
            by_index[index] = name
    else:
        by_index = {int(key) if key.isdecimal() else key: value for key, value in document.items()}
    if set(by_index) != set(range(len(by_index))):
        shown = ", ".join(map(str, list(by_index)[:5]))
        raise DatasetError(f"labels: {path.name}: expected every index from 0 on. Received: {shown} ...")
    return [by_index[index] for index in range(len(by_index))]


def _label(item: Any, path: Path) -> Label:
    if isinstance(item, str) and item:
        return Label(item, item)
    if isinstance(item, Sequence) and len(item) == 2 and all(isinstance(part, str) and part for part in item):
        return Label(item[0], item[1])
    if isinstance(item, Mapping) and isinstance(item.get("id"), str) and item["id"]:
        name = item.get("name", item["id"])
        if isinstance(name, str):
            return Label(item["id"], name)
    raise DatasetError(f"labels: {path.name}: expected {_FORMS}. Received: {item!r}")


def _distinct(labels: list[Label], path: Path) -> tuple[Label, ...]:
    ids = [label.id for label in labels]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise DatasetError(
            f"labels: {path.name}: expected each name once (ImageNet has two cranes and two maillots: give ids and "
            f"names). Received twice: {', '.join(twice[:5])}"
        )
    return tuple(labels)
