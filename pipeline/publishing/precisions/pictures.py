"""Finds images by which precisions of a published version are judged: its run's, or a folder of any pictures."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contract.errors import ImageError
from contract.files.regular import read_regular
from contract.image import decode_image
from contract.model import ModelContract
from contract.store import ModelStore
from pipeline.data.folder_source import FolderSource
from pipeline.data.ingest import Source, ingest, open_source
from pipeline.data.lineage import MANIFEST_FILE, find_run, seen_by, trained_data
from pipeline.data.names import escape_name
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow, read_manifest
from pipeline.errors import DatasetError
from pipeline.progress import progress_bar
from pipeline.publishing.precisions.equivalence import MAX_IMAGES, MIN_IMAGES, Evidence, choose_evidence
from pipeline.publishing.precisions.int8 import NUM_CALIBRATION, NUM_TUNING
from pipeline.run_folder import RUN_FILE
from pipeline.run_warnings import Weight, warn
from pipeline.scoring.score_folder import walk_images

log = logging.getLogger(__name__)

_MOST_OF_INT8 = NUM_CALIBRATION + NUM_TUNING[0]
LEAST = NUM_CALIBRATION + MIN_IMAGES


@dataclass(frozen=True)
class Pictures:
    """Images for int8 and for the judgement of it.

    Attributes:
        pixels: decodes them.
        evidence: images to judge by.
        candidates: paths from which those that make the int8 model are chosen.
        words: where they are from.
    """

    pixels: Pixels
    evidence: Evidence
    candidates: tuple[str, ...]
    words: str


def find_pictures(
    store: ModelStore, runs_dir: Path, name: str, version: int, *, folder: Path | None, seed: int
) -> Pictures:
    """Return the images of a folder, or those of the run that made a version.

    Args:
        store: has the version.
        runs_dir: has its run.
        name: the model.
        version: its number.
        folder: any pictures; their labels are known where they lie in folders that are named as the model's classes.
            None: training and validation images of the run.
        seed: of the choice.

    Raises:
        DatasetError: if there is no folder and no run, or there are fewer than LEAST images that can be read.
    """
    contract = store.read_contract(name, version)
    if folder is None:
        found = _of_run(store, runs_dir, name, version, contract, seed)
    else:
        found = _of_folder(store, runs_dir, name, version, contract, folder, seed)
    number = len({*found.candidates, *(row.path for row in found.evidence.rows)})
    if number < LEAST:
        raise DatasetError(
            f"{found.words}: expected at least {LEAST} images, {NUM_CALIBRATION} to calibrate int8 and {MIN_IMAGES} "
            f"others to judge it. Received: {number} that can be read, copies counted once"
        )
    return found


def _of_run(store: ModelStore, runs_dir: Path, name: str, version: int, contract: ModelContract, seed: int) -> Pictures:
    give = "give a folder of pictures with --images FOLDER"
    folder = find_run(store, runs_dir, name, version)
    if folder is None:
        raise DatasetError(f"{name}/{version}: no run of it is recorded in {runs_dir}; {give}")
    try:
        location = Path(str(json.loads(read_regular(folder / RUN_FILE))["location"]))
        source = open_source(location, trained_data(contract))
    except (OSError, ValueError, KeyError, TypeError, DatasetError) as err:
        raise DatasetError(f"{name}/{version}: the images of its run cannot be read: {err}; {give}") from err
    manifest = read_manifest(folder / MANIFEST_FILE)
    evidence = choose_evidence(manifest, [label.id for label in contract.labels], seed=seed)
    training = manifest.of("train")
    order = np.random.default_rng(seed).permutation(len(training))[: 2 * _MOST_OF_INT8]
    pixels = Pixels(source, contract.input)
    rows = {row.path: row for row in (*evidence.rows, *(training[i] for i in np.sort(order)))}
    good = _readable(pixels, tuple(rows.values()))
    positions = np.flatnonzero([row.path in good for row in evidence.rows])
    candidates = tuple(path for path in (training[i].path for i in np.sort(order)) if path in good)
    return Pictures(pixels, evidence.at(positions), candidates, f"the run's images in {escape_name(str(location))}")


def _of_folder(
    store: ModelStore,
    runs_dir: Path,
    name: str,
    version: int,
    contract: ModelContract,
    folder: Path,
    seed: int,
) -> Pictures:
    labels = [label.id for label in contract.labels]
    source, found = _list_pictures(folder, labels)
    order = np.random.default_rng(seed).permutation(len(found))[: MAX_IMAGES + _MOST_OF_INT8]
    chosen = [found[int(i)] for i in np.sort(order)]
    rows = tuple(ManifestRow(path, "", label, "", "val") for path, label in chosen)
    pixels = Pixels(source, contract.input)
    hashes = _readable(pixels, rows)
    first: dict[str, ManifestRow] = {}
    for row in rows:
        if row.path in hashes:
            digest = hashes[row.path]
            first.setdefault(digest, replace(row, sha256=digest, group=digest))
    kept = tuple(first.values())
    words = escape_name(str(folder))
    if not all(row.label for row in kept):
        return Pictures(pixels, Evidence(kept, None), tuple(row.path for row in kept), words)
    seen = seen_by(store, runs_dir, name, version)
    if seen is not None:  # training images are over-confident: they do not validate
        kept = tuple(replace(row, split="train") if row.sha256 in seen.sha256 else row for row in kept)
    targets = np.array([labels.index(row.label) for row in kept], np.int64)
    return Pictures(pixels, Evidence(kept, targets), tuple(row.path for row in kept), words)


def _list_pictures(folder: Path, labels: Sequence[str]) -> tuple[Source, list[tuple[str, str]]]:
    """Return what reads a folder's pictures, and each one's path and label; "" for unknown labels."""
    try:
        dataset = ingest(folder)
        if {example.label for example in dataset.examples} <= set(labels):
            return dataset.source, [(example.path, example.label) for example in dataset.examples]
    except DatasetError:
        pass  # not laid out in classes
    return FolderSource(folder), [(path, "") for path in walk_images(folder)]


def _readable(pixels: Pixels, rows: Sequence[ManifestRow]) -> dict[str, str]:
    """Return the SHA-256 of images that can be decoded and are those that a run knows, by path; decoded ones are kept.

    Args:
        pixels: decodes and keeps them.
        rows: the images; "" as a hash stands for any.
    """
    found: dict[str, str] = {}
    for row in progress_bar(rows, total=len(rows), what="Reading", unit="image"):
        try:
            data = pixels.source.read(row.path)
            digest = hashlib.sha256(data).hexdigest()
            if row.sha256 in ("", digest):
                pixels.keep(row.path, decode_image(data, pixels.spec))
                found[row.path] = digest
        except (ImageError, OSError, KeyError, zlib.error):
            continue
    if lost := len(rows) - len(found):
        warn(log, Weight.IMAGES, "%d of %d images cannot be read or have changed; they are left out.", lost, len(rows))
    return found
