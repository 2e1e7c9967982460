"""The plan of a scoring: which images, by which version and precision, in which units. It is written once."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from contract.durable import sync_directory
from contract.regular import read_regular
from pipeline.errors import PipelineError

PLAN_FILE = "_plan.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Listed:
    """An image to score.

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
        model: the model's name.
        version: its number.
        contract: "sha256:<hex>" of the version's contract, which names the decoder.
        precision: of the arithmetic, such as "float32"; "auto" is resolved before the plan is made.
    """

    images: int
    listing_sha256: str
    unit_rows: int
    model: str
    version: int
    contract: str
    precision: str

    @property
    def num_units(self) -> int:
        """Number of units."""
        return -(-self.images // self.unit_rows)

    @property
    def sha256(self) -> str:
        """Hex digest of the plan; every part holds it."""
        return hashlib.sha256(_dump(self).encode()).hexdigest()

    def rows_of(self, unit: int, listing: Sequence[Listed]) -> Sequence[Listed]:
        """Return the images of a unit."""
        return listing[unit * self.unit_rows : (unit + 1) * self.unit_rows]


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
        types: Mapping[str, type] = {field.name: int if field.type == "int" else str for field in fields(Plan)}
        if document.keys() != types.keys() or not all(type(document[name]) is types[name] for name in types):
            raise ValueError("other fields")
        return Plan(**document)
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as err:
        raise PipelineError(f"{path}: expected the plan of a scoring, format {_FORMAT}. Received: {err}") from err


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
        PipelineError: naming the fields that differ.
    """
    kept = read_plan(folder)
    if kept is None or kept == plan:
        return
    before, now = asdict(kept), asdict(plan)
    words = {"listing_sha256": "the images", "contract": "the version's contract"}
    differing = [
        words.get(name, f"{name} ({before[name]} there, {now[name]} now)") for name in now if before[name] != now[name]
    ]
    raise PipelineError(
        f"--out: {folder} holds parts of another scoring; these differ: {', '.join(differing)}. Name a new folder, "
        "or delete this one"
    )


def _dump(plan: Plan) -> str:
    document: dict[str, Any] = {"format": _FORMAT, **asdict(plan)}
    return json.dumps(document, indent=1)
