"""Verifies a published version against the probabilities that were recorded when it was published."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ImageError
from contract.files.regular import read_regular
from contract.model import ModelContract
from contract.store import VERIFICATION_FILE, ModelStore
from engine.engine import Engine
from pipeline.data.ingest import open_source
from pipeline.data.lineage import MANIFEST_FILE, find_run, trained_data
from pipeline.data.map_batches import map_batches
from pipeline.data.names import escape_name
from pipeline.data.split import read_manifest
from pipeline.errors import DatasetError, VerificationError
from pipeline.evaluation.scorer import Decoded, decode_files
from pipeline.publishing.deviations.compare import (
    Compared,
    Deviation,
    compare,
    compare_embeddings,
    synthetic_images,
)
from pipeline.publishing.verify import call, check_embed, check_engines
from pipeline.run_folder import RUN_FILE

PREDICTIONS_FILE = "predictions.csv"
_NOTHING_RECORDED = "the version has no recorded probabilities of synthetic images"


@dataclass(frozen=True)
class Comparison:
    """The result for one set of images on one engine.

    Attributes:
        what: "synthetic" or "test".
        deviation: from the recorded probabilities; None if there are none.
        note: why images were left out or nothing was compared; empty if all went well.
    """

    what: str
    deviation: Deviation | None
    note: str


@dataclass(frozen=True)
class _Recorded:
    """Test images of a run that have not changed, and the probabilities that the run recorded."""

    read: Callable[[str], bytes]
    paths: list[str]
    probabilities: NDArray[np.float32]
    note: str


def verify_published(
    store: ModelStore, runs_dir: Path, name: str, version: int, *, data: Path | None = None
) -> list[Comparison]:
    """Check every signature of a published version and its recorded images, on every engine of this machine.

    Args:
        store: has the version.
        runs_dir: has the run that made it; its test images are compared if they are still there.
        name: the model.
        version: its number.
        data: where the run's images are now, if they have been moved.

    Raises:
        VerificationError: if anything disagrees.
        StoreError: if there is no such version.
    """
    directory = store.version_path(name, version)
    contract = store.read_contract(name, version)
    recorded = _read_json(directory / VERIFICATION_FILE).get("synthetic")
    found = _find_recorded(store, runs_dir, name, version, data)
    synthetic = [] if isinstance(recorded, dict) else [Comparison("synthetic", None, _NOTHING_RECORDED)]
    test = [Comparison("test", None, found)] if isinstance(found, str) else []

    def measure(engine: Engine, received: NDArray[np.float32]) -> None:
        if isinstance(recorded, dict):
            expected = np.array(recorded["probabilities"], np.float32)
            images = synthetic_images(directory, contract)
            deviation = compare(engine, received, expected, images, what="against the version's verification.json")
            synthetic.append(Comparison("synthetic", deviation, ""))
            _compare_embeddings(engine, contract, recorded, images)
        if isinstance(found, _Recorded):
            received = _predict(engine, contract, found)
            images = Compared(directory, lambda rows: _read_images(contract, found, rows))
            what = f"against the run's {PREDICTIONS_FILE}"
            deviation = compare(engine, received, found.probabilities, images, what=what)
            test.append(Comparison("test", deviation, found.note))

    check_engines(directory, contract, measure)
    return [*synthetic, *test]


def _compare_embeddings(engine: Engine, contract: ModelContract, recorded: dict[str, Any], images: Compared) -> None:
    """Compare embeddings of synthetic images with those that were written down, if any were.

    Raises:
        VerificationError: if they disagree.
    """
    if "embeddings" in recorded and (received := check_embed(engine, contract, images)) is not None:
        expected = np.array(recorded["embeddings"], np.float32)
        what = "against the version's verification.json"
        compare_embeddings(engine, received[: len(expected)], expected, images, what=what)


def _find_recorded(store: ModelStore, runs_dir: Path, name: str, version: int, data: Path | None) -> _Recorded | str:
    """Return the recorded test images, or why there are none."""
    folder = find_run(store, runs_dir, name, version)
    if folder is None or not (folder / PREDICTIONS_FILE).is_file():
        return "the run that made it is not recorded here"
    contract = store.read_contract(name, version)
    recorded = _read_json(folder / RUN_FILE).get("location")
    if data is None and not isinstance(recorded, str):
        return "the run did not record where its images are; name the folder with --data DIR"
    location = data or Path(str(recorded))
    try:
        source = open_source(location, trained_data(contract))
    except DatasetError as err:
        return f"the run's images cannot be read ({err}); name their folder with --data DIR"
    labels = [label.id for label in contract.labels]
    expected = _read_predictions(folder / PREDICTIONS_FILE, labels)
    sha256 = {row.path: row.sha256 for row in read_manifest(folder / MANIFEST_FILE).of("test")}
    same = [path for path in expected if _is_unchanged(source.read, path, sha256.get(path))]
    if not same:
        return f"none of the run's {len(expected)} test images is unchanged in {escape_name(location.name)}"
    note = "" if len(same) == len(expected) else f"{len(expected) - len(same)} images are gone or have changed"
    return _Recorded(source.read, same, np.stack([expected[path] for path in same]), note)


def _is_unchanged(read: Callable[[str], bytes], path: str, sha256: str | None) -> bool:
    try:
        return hashlib.sha256(read(path)).hexdigest() == sha256
    except OSError:
        return False


def _predict(engine: Engine, contract: ModelContract, recorded: _Recorded) -> NDArray[np.float32]:
    def predict(batch: list[tuple[str, Decoded]]) -> NDArray[Any]:
        return call(engine, "serving_default", {"images": _stack(batch)})["probabilities"]

    return np.concatenate(list(map_batches(predict, decode_files(recorded.read, recorded.paths, contract.input))))


def _read_images(contract: ModelContract, recorded: _Recorded, positions: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return some of the recorded images."""
    paths = [recorded.paths[i] for i in positions]
    return _stack(list(decode_files(recorded.read, paths, contract.input)))


def _stack(batch: list[tuple[str, Decoded]]) -> NDArray[np.uint8]:
    """Return decoded images as one array.

    Raises:
        VerificationError: if one of them cannot be read.
    """
    images = []
    for path, decoded in batch:
        if isinstance(decoded, ImageError | OSError):
            raise VerificationError(f"{path} was readable when it was trained on. Received: {decoded}") from decoded
        images.append(decoded)
    return np.stack(images)


def _read_predictions(path: Path, labels: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the probabilities that a run wrote down, by image, columns in the order of `labels`."""
    try:
        with io.StringIO(read_regular(path).decode("utf-8"), newline="") as file:
            return {
                row["path"]: np.array([row[f"probability_{label}"] for label in labels], np.float32)
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError) as err:
        raise DatasetError(f"{path.name} of the run cannot be read: {err}") from err


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_regular(path))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
