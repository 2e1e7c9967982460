"""Predicts a folder of images of any size into a CSV, one row an image, in bounded memory."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import ImageError
from contract.predictions import decode_predictions
from contract.store import ModelStore
from engine.precision import AUTO
from pipeline.data.ingest import IMAGE_SUFFIXES
from pipeline.data.map_batches import map_batches
from pipeline.errors import DatasetError
from pipeline.evaluation.scorer import Decoded, Scorer, decode_files, scorer_of
from pipeline.progress import progress_bar


@dataclass(frozen=True, slots=True)
class Scored:
    """The counts of one `score`.

    Attributes:
        images: rows with probabilities.
        errors: rows with an error.
        precision: of the arithmetic, such as "float32".
    """

    images: int
    errors: int
    precision: str


def score_folder(
    store: ModelStore, name: str, version: int, *, folder: Path, out: Path, precision: str = AUTO
) -> Scored:
    """Write a CSV with one row for each image below a folder, in the order of their paths.

    Columns: path (below the folder), id, label and probability of the most probable class, one `probability_<id>` for
    each class, error. A file that cannot be read or decoded is a row with an error and no probabilities. The CSV
    appears under its name when it is complete.

    Args:
        store: has the version.
        name: the model.
        version: its number.
        folder: is walked with all its subfolders; links to folders are not followed.
        out: the CSV; replaced if it exists.
        precision: "auto" (a faster one only where the version's verification allows it), or which.

    Raises:
        DatasetError: if there is no such folder, it has no images, or the CSV cannot be written.
        EngineError: if the version cannot be loaded, or not at that precision on this machine.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of images. Received: no such folder")
    total = sum(1 for _ in walk_images(folder))
    if total == 0:
        raise DatasetError(f"{folder}: expected images ({', '.join(sorted(IMAGE_SUFFIXES))}). Received: none")
    unfinished = out.with_name(f".{out.name}.part")
    try:
        with (
            scorer_of(store, name, version, precision=precision) as scorer,
            unfinished.open("w", newline="", encoding="utf-8") as file,
        ):
            scored = _write_rows(file, scorer, folder, total)
        unfinished.replace(out)
    except OSError as err:
        raise DatasetError(f"{out} cannot be written: {err.strerror or err}") from err
    finally:
        unfinished.unlink(missing_ok=True)
    return scored


def walk_images(folder: Path) -> Iterator[str]:
    """Yield the paths of images below a folder, with forward slashes, sorted within each folder; hidden ones are not.

    One folder's names are in memory at a time.
    """
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield (Path(top).relative_to(folder) / name).as_posix()


def _write_rows(file: Any, scorer: Scorer, folder: Path, total: int) -> Scored:
    writer = csv.writer(file)
    labels = [label.id for label in scorer.contract.labels]
    writer.writerow(["path", "id", "label", "probability", *(f"probability_{label}" for label in labels), "error"])
    images = errors = 0
    with progress_bar(total=total, what="Scoring", unit="image") as bar:
        files = decode_files(lambda path: (folder / path).read_bytes(), walk_images(folder), scorer.contract.input)
        for rows in map_batches(partial(_score, scorer), files):
            writer.writerows(rows)
            bad = sum(1 for row in rows if row[-1])
            images, errors = images + len(rows) - bad, errors + bad
            bar.update(len(rows))
    return Scored(images, errors, scorer.engine.precision)


def _score(scorer: Scorer, batch: list[tuple[str, Decoded]]) -> list[list[str]]:
    """Return one row an image, in order."""
    images = [decoded for _, decoded in batch if isinstance(decoded, np.ndarray)]
    probabilities = iter(scorer(np.stack(images)) if images else np.empty((0, 0), np.float32))
    rows = []
    for path, decoded in batch:
        if isinstance(decoded, np.ndarray):
            values = next(probabilities)
            ((best,),) = decode_predictions(values[None], scorer.contract.labels, 1)
            rows.append([path, best.id, best.label, *(str(v) for v in (values[best.index], *values)), ""])
        else:
            empty = [""] * (3 + len(scorer.contract.labels))
            rows.append([path, *empty, _describe_error(decoded)])
    return rows


def _describe_error(error: ImageError | OSError) -> str:
    if isinstance(error, ImageError):
        return f"{error.code}: {error}"
    return f"unreadable_file: {error.strerror or error}"
