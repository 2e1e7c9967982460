"""Checks what a version was published with: OpenVINO's files of its networks, and outputs of synthetic images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.files.regular import read_regular
from contract.model import InputSpec, ModelContract
from contract.store import CONTRACT_FILE, INT8_FILE, NETWORK_FILE, VERIFICATION_FILE
from engine.engine import Engine
from engine.errors import EngineError, ModelLoadError
from engine.saved_model import DEFAULT_SIGNATURE

NUM_IMAGES = 4


class OutputsDifferError(ModelLoadError):
    """A precision gives other outputs on this machine than it gave where the version was published."""

    code = "FAILED_PRECONDITION"


@dataclass(frozen=True)
class KeptOutputs:
    """Probabilities of the synthetic images at a precision faster than float32, where a version was published.

    Attributes:
        engine: such as "openvino".
        precision: such as "int8".
        bound: how far a probability may be from these elsewhere.
        probabilities: float32, shape (images, classes).
    """

    engine: str
    precision: str
    bound: float
    probabilities: NDArray[np.float32]

    def document(self) -> dict[str, Any]:
        """Return what verification.json holds."""
        rows = [[float(str(value)) for value in row] for row in self.probabilities]
        return {"engine": self.engine, "precision": self.precision, "bound": self.bound, "probabilities": rows}


def check_kept_outputs(engine: Engine, directory: Path) -> None:
    """Compare an engine's probabilities of the synthetic images with those kept for its precision, if there are any.

    Raises:
        OutputsDifferError: if one is further away than the bound.
        ModelLoadError: if they cannot be computed or read.
    """
    kept = _find_kept(directory, engine.name, engine.precision)
    if kept is None:
        return
    try:
        spec = ModelContract.from_json(read_regular(directory / CONTRACT_FILE)).input
        received = engine.run(DEFAULT_SIGNATURE, {"images": build_synthetic_images(spec)})["probabilities"]
        expected, bound = np.array(kept["probabilities"], np.float32), float(kept["bound"])
    except (EngineError, KeyError, OSError, TypeError, ValueError) as err:
        raise ModelLoadError(f"the kept outputs at {engine.precision} cannot be checked: {err}") from err
    if received.shape != expected.shape or not np.isfinite(received).all():
        raise OutputsDifferError(
            f"synthetic images at {engine.precision}: expected finite probabilities of shape {expected.shape}. "
            f"Received: shape {received.shape}"
        )
    largest = float(np.abs(received - expected).max())
    if not largest <= bound:
        raise OutputsDifferError(
            f"synthetic images at {engine.precision}: expected probabilities at most {bound:g} from those in "
            f"verification.json. Received: {largest:.3g}; this machine computes {engine.precision} otherwise"
        )


def _find_kept(directory: Path, engine: str, precision: str) -> dict[str, Any] | None:
    """Return what verification.json keeps for a precision; None for versions that keep nothing."""
    try:
        entries = json.loads(read_regular(directory / VERIFICATION_FILE))["synthetic"]["precisions"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    found = [item for item in entries if isinstance(item, dict)] if isinstance(entries, list) else []
    return next((item for item in found if (item.get("engine"), item.get("precision")) == (engine, precision)), None)


def hash_int8_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a version's int8 model, by name, as verification.json holds them."""
    return _hash_files(directory / INT8_FILE)


def hash_network_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a version's network that is OpenVINO's own, by name."""
    return _hash_files(directory / NETWORK_FILE)


def _hash_files(xml: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(read_regular(path)).hexdigest() for path in (xml, xml.with_suffix(".bin"))}


def check_int8_files(directory: Path) -> None:
    """Check the files of a version's int8 model.

    Raises:
        ModelLoadError: naming the files that are missing or differ.
    """
    _check_files(directory, "int8", "the int8 model", hash_int8_files)


def check_network_files(directory: Path) -> None:
    """Check the files of a version's network that is OpenVINO's own.

    Raises:
        ModelLoadError: naming the files that are missing or differ.
    """
    _check_files(directory, "network", "the network", hash_network_files)


def _check_files(directory: Path, key: str, what: str, hash_files: Callable[[Path], dict[str, str]]) -> None:
    """Check that files are those that were verified; a version that is not published yet has nothing to compare.

    Args:
        directory: the version's folder.
        key: of verification.json, where their hashes are.
        what: they are, in words.
        hash_files: returns the SHA-256 of each, by name.

    Raises:
        ModelLoadError: naming the files that are missing or differ.
    """
    if not (directory / VERIFICATION_FILE).exists():
        return
    try:
        document = json.loads(read_regular(directory / VERIFICATION_FILE))
        expected = document[key]["sha256"]
        found = hash_files(directory)
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise ModelLoadError(f"{what} cannot be checked: {err}", code="DATA_LOSS") from err
    if wrong := sorted(name for name, digest in found.items() if expected.get(name) != digest):
        raise ModelLoadError(
            f"{what} is not the one that was verified: {', '.join(wrong)} has another SHA-256 than in "
            "verification.json",
            code="DATA_LOSS",
        )


def build_synthetic_images(spec: InputSpec) -> NDArray[np.uint8]:
    """Return NUM_IMAGES images, the same on every machine: fine noise, coarse noise and two ramps under noise.

    Integer arithmetic only, and no random generator whose stream a library may change.

    Returns:
        uint8, shape (NUM_IMAGES, height, width, channels).
    """
    rows, columns, channels = np.indices(spec.shape, dtype=np.uint32)
    block = np.uint32(max(2, min(spec.height, spec.width) // 8))
    ramp = columns * np.uint32(255) // np.uint32(max(1, spec.width - 1))
    images = [
        _noise(rows, columns, channels),
        _noise(rows // block, columns // block, channels),
        ramp // 2 + _noise(rows, columns, channels) // 2,
        (255 - ramp) // 2 + _noise(rows // block, columns, channels) // 2,
    ]
    return np.stack(images).astype(np.uint8)


def _noise(rows: NDArray[np.uint32], columns: NDArray[np.uint32], channels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return values 0-255 by mixing coordinates (the finalizer of MurmurHash3); overflow wraps, as it is meant to."""
    mixed = rows * np.uint32(73856093) ^ columns * np.uint32(19349663) ^ (channels + 1) * np.uint32(83492791)
    mixed = (mixed ^ mixed >> 16) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ mixed >> 13) * np.uint32(0xC2B2AE35)
    return np.asarray((mixed ^ mixed >> 16) & np.uint32(255))
