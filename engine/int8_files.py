"""Files of a version's int8 model: hashed when it is published, checked when it is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from contract.regular import read_regular
from contract.store import INT8_FILE, VERIFICATION_FILE
from engine.errors import ModelLoadError


def hash_int8_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a version's int8 model, by name, as verification.json holds them."""
    xml = directory / INT8_FILE
    return {path.name: hashlib.sha256(read_regular(path)).hexdigest() for path in (xml, xml.with_suffix(".bin"))}


def check_int8_files(directory: Path) -> None:
    """Check that the files are those that were verified; a version that is not published yet has nothing to compare.

    Raises:
        ModelLoadError: naming the files that are missing or differ.
    """
    if not (directory / VERIFICATION_FILE).exists():
        return
    try:
        document = json.loads(read_regular(directory / VERIFICATION_FILE))
        expected = document["int8"]["sha256"]
        found = hash_int8_files(directory)
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise ModelLoadError(f"the int8 model cannot be checked: {err}", code="DATA_LOSS") from err
    if wrong := sorted(name for name, digest in found.items() if expected.get(name) != digest):
        raise ModelLoadError(
            f"the int8 model is not the one that was verified: {', '.join(wrong)} has another SHA-256 than in "
            "verification.json",
            code="DATA_LOSS",
        )
