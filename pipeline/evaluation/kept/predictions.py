"""Keeps a version's probabilities of test images: the gate does not run it on the same images again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from contract.store import CONTRACT_FILE
from engine.network_file import network_files
from engine.precision_names import FLOAT32
from engine.runtime import preferred_runtime, runtime_version
from pipeline.data.pixels import pixel_packages
from pipeline.data.split import ManifestRow
from pipeline.evaluation.kept.rows import KeptRows

FOLDER = Path(".cache") / "predictions"  # below the folder of runs


class KeptPredictions:
    """Probabilities by one version's graph on the preferred runtime at float32, kept by the images' content.

    Args:
        runs_dir: where runs are recorded.
        directory: the version's folder.
    """

    def __init__(self, runs_dir: Path, directory: Path) -> None:
        contract = ModelContract.from_json((directory / CONTRACT_FILE).read_bytes())
        runtime = preferred_runtime().name
        computed_by = [runtime, runtime_version(runtime), FLOAT32]
        facts: list[Any] = [contract.sha256, contract.input.document(), pixel_packages(), *computed_by]
        for path in network_files(directory):
            with path.open("rb") as file:
                facts.append(hashlib.file_digest(file, "sha256").hexdigest())
        self._rows = KeptRows(runs_dir / FOLDER, "predictions", facts, len(contract.labels))

    def find(self, rows: Sequence[ManifestRow]) -> NDArray[np.float32] | None:
        """Return probabilities in the contract's order of classes, shape (images, classes); None if one is missing."""
        keys = [self._rows.key(row) for row in rows]
        return self._rows.batch(keys) if all(key in self._rows for key in keys) else None

    def add(self, rows: Sequence[ManifestRow], probabilities: NDArray[np.float32]) -> None:
        """Keep the probabilities of images; where they cannot be written, the next gate computes them."""
        self._rows.add([self._rows.key(row) for row in rows], probabilities)
