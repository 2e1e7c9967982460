"""Chooses the precision of a model: float32, or one that its verification allows and that may be faster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contract.errors import ContractError
from contract.files.regular import read_regular
from contract.model import ModelContract
from contract.store import CONTRACT_FILE, VERIFICATION_FILE
from engine.errors import ModelLoadError
from engine.precision_names import AUTO, FLOAT32, INT8

NO_INT8 = "; the version has no int8 model, see docs/versions.md"


def choose_precision(directory: Path, wanted: str, *, engine: str, offered: Sequence[str]) -> str:
    """Return the precision to run a model at.

    "auto" is the first offered one that verification.json calls equivalent to float32 for this engine, but int8, which
    is not faster for every network; float32 if there is none. A file without such verdicts, of a version published
    before there were any, must show that every probability of the test images stays within the contract's tolerance
    and every prediction as it was.

    Args:
        directory: the version's folder.
        wanted: "auto" or a precision.
        engine: the runtime's name, as verification.json has it.
        offered: what this machine may compute faster than float32, the fastest first.

    Raises:
        ModelLoadError: if the machine does not have the precision that is wanted.
    """
    if wanted == AUTO:
        verified = verified_precisions(directory, engine=engine, offered=offered)
        return next((precision for precision in verified if precision != INT8), FLOAT32)
    if wanted not in (FLOAT32, *offered):
        raise ModelLoadError(
            f"precision: expected one of {', '.join((AUTO, FLOAT32, *offered))} with {engine} on this machine. "
            f"Received: {wanted}{NO_INT8 if wanted == INT8 else ''}",
            code="INVALID_ARGUMENT",
        )
    return wanted


def verified_precisions(directory: Path, *, engine: str, offered: Sequence[str]) -> tuple[str, ...]:
    """Return the offered precisions that verification.json allows, in their order; see `choose_precision`."""
    return tuple(precision for precision in offered if _is_verified(directory, engine, precision))


def _is_verified(directory: Path, engine: str, precision: str) -> bool:
    try:
        tolerance = ModelContract.from_json(read_regular(directory / CONTRACT_FILE)).tolerance
        document = json.loads(read_regular(directory / VERIFICATION_FILE))
    except (OSError, ValueError, ContractError):
        return False  # another program's model, without a verification
    if not isinstance(document, dict):
        return False
    if "equivalences" in document:
        return any(item.get("equivalent") is True for item in _find(document["equivalences"], engine, precision))
    return any(_is_good(item, tolerance) for item in _find(document.get("deviations"), engine, precision))


def _find(entries: Any, engine: str, precision: str) -> list[dict[str, Any]]:
    """Return the entries about an engine and a precision."""
    return [
        item
        for item in (entries if isinstance(entries, list) else ())
        if isinstance(item, dict) and (item.get("engine"), item.get("precision")) == (engine, precision)
    ]


def _is_good(deviation: dict[str, Any], tolerance: float) -> bool:
    largest, changed, images = (deviation.get(key) for key in ("max_deviation", "changed_predictions", "images"))
    return isinstance(largest, float | int) and largest <= tolerance and changed == 0 and bool(images)
