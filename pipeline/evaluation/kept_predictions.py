"""Keeps a version's probabilities of test images: the gate does not run it on the same images again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from contract.store import CONTRACT_FILE
from engine.network_file import network_files
from engine.precision_names import FLOAT32
from engine.runtime import preferred_runtime, runtime_version
from pipeline.data.split import ManifestRow
from pipeline.errors import CacheError
from pipeline.features.feature_store import FeatureStore, make_key
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

FOLDER = Path(".cache") / "predictions"  # below the folder of runs
_MAX_BYTES = 10**8


class KeptPredictions:
    """Probabilities by one version's graph on the preferred runtime at float32, kept by the images' content.

    Args:
        runs_dir: where runs are recorded.
        directory: the version's folder.
    """

    def __init__(self, runs_dir: Path, directory: Path) -> None:
        contract = ModelContract.from_json((directory / CONTRACT_FILE).read_bytes())
        runtime = preferred_runtime().name
        parts = [contract.sha256, contract.input.document(), runtime, runtime_version(runtime), FLOAT32]
        digest = hashlib.sha256(json.dumps(parts).encode())
        for path in network_files(directory):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        shape = (len(contract.labels),)
        name = digest.hexdigest()[:32]
        self._store = FeatureStore(runs_dir / FOLDER, name, shape=shape, max_bytes=_MAX_BYTES, precision="float32")

    def find(self, rows: Sequence[ManifestRow]) -> NDArray[np.float32] | None:
        """Return probabilities in the contract's order of classes, shape (images, classes); None if one is missing."""
        keys = _keys(rows)
        return self._store.batch(keys) if all(key in self._store for key in keys) else None

    def add(self, rows: Sequence[ManifestRow], probabilities: NDArray[np.float32]) -> None:
        """Keep the probabilities of images; where they cannot be written, the next gate computes them."""
        new = {key: values for key, values in zip(_keys(rows), probabilities, strict=True) if key not in self._store}
        try:
            if new and self._store.make_room(len(new)):
                self._store.add(list(new), np.stack(list(new.values())))
        except CacheError as err:
            warn(log, Weight.SPEED, "The predictions of test images are not kept: %s", err)


def _keys(rows: Sequence[ManifestRow]) -> list[str]:
    return [make_key(row.sha256, "probabilities") for row in rows]
