"""Finds the version that `quantize` would publish again: one with an int8 model that is proven and current."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract.files.regular import read_regular
from contract.store import INT8_FILE, VERIFICATION_FILE, ModelStore
from engine.errors import ModelLoadError
from engine.kept import check_int8_files, hash_int8_files
from engine.loading import allowed_precisions, list_precisions
from engine.precision_names import INT8
from pipeline.publishing.precisions.equivalence import Equivalence
from pipeline.publishing.precisions.int8 import INT8_ENGINE, int8_packages


def find_quantized(store: ModelStore, name: str, version: int) -> int | None:
    """Return a version or the newest copy of it with an equivalent int8 model, made and judged by what is installed.

    Its files must be those that were verified, and each faster precision of this machine must have a verdict.
    """
    return next((one for one in _copies(store, name, version) if _is_current(store.version_path(name, one))), None)


def find_same(store: ModelStore, name: str, version: int, directory: Path, verdicts: list[Equivalence]) -> int | None:
    """Return a version or the newest copy of it with the int8 model of a folder, allowed at the same precisions.

    Args:
        store: has the version.
        name: the model.
        version: its number.
        directory: a copy of it that is not published yet.
        verdicts: on the copy.
    """
    if not (directory / INT8_FILE).exists():
        return None
    found = _hash_weights(directory)
    equivalent = {verdict.precision for verdict in verdicts if verdict.equivalent and verdict.engine == INT8_ENGINE}
    for one in _copies(store, name, version):
        path = store.version_path(name, one)
        allowed = set(allowed_precisions(path, INT8_ENGINE)[1:])
        if _is_whole(path) and _hash_weights(path) == found and equivalent <= allowed:
            return one
    return None


def _copies(store: ModelStore, name: str, version: int) -> Iterator[int]:
    """Yield the version, then its copies, the newest first."""
    yield version
    for one in sorted(store.read_versions(name), reverse=True):
        if _read_verification(store.version_path(name, one)).get("copy_of") == version:
            yield one


def _is_current(directory: Path) -> bool:
    if INT8 not in allowed_precisions(directory, INT8_ENGINE) or not _is_whole(directory):
        return False
    document = _read_verification(directory)
    made, verdicts = document["int8"], document.get("equivalences")
    if any(made.get(package) != release for package, release in int8_packages().items()):
        return False
    judged = {item.get("precision") for item in verdicts or () if item.get("engine") == INT8_ENGINE}
    return judged.issuperset(list_precisions(INT8_ENGINE)[1:])


def _is_whole(directory: Path) -> bool:
    """Return whether a version has an int8 model, and its files are those that were verified."""
    try:
        check_int8_files(directory)
    except ModelLoadError:
        return False
    return (directory / INT8_FILE).exists()


def _hash_weights(directory: Path) -> str:
    """Return the SHA-256 of an int8 model's numbers: its .xml has other names of layers each time that it is made."""
    return hash_int8_files(directory)[(directory / INT8_FILE).with_suffix(".bin").name]


def _read_verification(directory: Path) -> Mapping[str, Any]:
    """Return what verification.json holds; nothing where it cannot be read."""
    try:
        document = json.loads(read_regular(directory / VERIFICATION_FILE))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, Mapping) else {}
