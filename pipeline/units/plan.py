"""The plan of work in units: which images, in which units, and what else each part depends on. It is written once."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.files.durable import sync_directory
from contract.files.regular import read_regular
from pipeline.errors import PipelineError

PLAN_FILE = "_plan.json"
_FORMAT = 1
_OF_ALL: Mapping[str, type] = {"images": int, "listing_sha256": str, "unit_rows": int}
_LONGEST = 31  # characters of a fact that a message shows; longer ones are hashes


@dataclass(frozen=True, slots=True)
class Listed:
    """An image to work on.

    Attributes:
        path: below the folder, with forward slashes.
        size: of its file, bytes.
    """

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The facts on which every part depends.

    Attributes:
        images: number of images.
        listing_sha256: hex digest of their paths and sizes, in order.
        unit_rows: images of a unit; the last one may have fewer.
        facts: what else a part depends on, by name, such as a version and a precision.
    """

    images: int
    listing_sha256: str
    unit_rows: int
    facts: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def num_units(self) -> int:
        """Number of units."""
        return -(-self.images // self.unit_rows)

    @property
    def sha256(self) -> str:
        """Hex digest of the plan; every part holds it."""
        return hashlib.sha256(_dump(self).encode()).hexdigest()

    def size_of(self, unit: int) -> int:
        """Return the number of images of a unit."""
        return min(self.unit_rows, self.images - unit * self.unit_rows)

    def rows_of(self, unit: int, listing: Sequence[Listed]) -> Sequence[Listed]:
        """Return the images of a unit."""
        return listing[unit * self.unit_rows : (unit + 1) * self.unit_rows]


def make_plan(listing: Sequence[Listed], unit_rows: int, facts: Mapping[str, str | int]) -> Plan:
    """Return the plan of work on images."""
    return Plan(len(listing), hash_listing(listing), unit_rows, facts)


def hash_listing(listing: Iterable[Listed]) -> str:
    """Return the hex digest of paths and sizes."""
    digest = hashlib.sha256()
    for image in listing:
        digest.update(f"{image.path}\0{image.size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of a folder of parts; None before there is one.

    Raises:
        PipelineError: if the file is none.
    """
    path = folder / PLAN_FILE
    try:
        document = json.loads(read_regular(path))
        if document.pop("format") != _FORMAT:
            raise ValueError("another format")
        if any(type(document.get(name)) is not kind for name, kind in _OF_ALL.items()):
            raise ValueError("other fields")
        facts = {name: value for name, value in document.items() if name not in _OF_ALL}
        if any(type(value) not in (int, str) for value in facts.values()):
            raise ValueError("other fields")
        return Plan(**{name: document[name] for name in _OF_ALL}, facts=facts)
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as err:
        raise PipelineError(f"{path}: expected the plan of work in units, format {_FORMAT}. Received: {err}") from err


def keep_plan(folder: Path, plan: Plan) -> None:
    """Write the plan, or compare it with the one that is there; of several writers the first one wins.

    Raises:
        PipelineError: if the folder holds parts of another plan, naming what differs.
        OSError: if it cannot be written.
    """
    temporary = folder / f".{PLAN_FILE}.{secrets.token_hex(8)}"
    try:
        temporary.write_text(_dump(plan) + "\n", encoding="utf-8")
        os.link(temporary, folder / PLAN_FILE)
        sync_directory(folder)
    except FileExistsError:
        check_plan(folder, plan)
    finally:
        temporary.unlink(missing_ok=True)


def check_plan(folder: Path, plan: Plan) -> None:
    """Compare a plan with the one that a folder holds.

    Raises:
        PipelineError: naming what differs.
    """
    kept = read_plan(folder)
    if kept is None or kept == plan:
        return
    before, now = _flat(kept), _flat(plan)
    names = [*now, *(name for name in before if name not in now)]
    differing = [_describe(name, before, now) for name in names if before.get(name) != now.get(name)]
    raise PipelineError(
        f"--out: {folder} holds parts of another plan; these differ: {', '.join(differing)}. Name a new folder, "
        "or delete this one"
    )


def _describe(name: str, before: Mapping[str, str | int], now: Mapping[str, str | int]) -> str:
    if name == "listing_sha256":
        return "the images"
    values = [str(side.get(name, "none")) for side in (before, now)]
    words = name.replace("_", " ")
    if max(map(len, values)) > _LONGEST:
        return f"the {words}"
    return f"{name} ({values[0]} there, {values[1]} now)"


def _flat(plan: Plan) -> dict[str, str | int]:
    return {**{name: getattr(plan, name) for name in _OF_ALL}, **plan.facts}


def _dump(plan: Plan) -> str:
    document: dict[str, Any] = {"format": _FORMAT, **_flat(plan)}
    return json.dumps(document, indent=1)
