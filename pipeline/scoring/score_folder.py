"""Predicts a folder of images of any size into a CSV, one row an image, in bounded memory."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ImageError
from contract.model import Label
from contract.store import ModelStore
from engine.precision_names import AUTO
from pipeline.data.folder_source import find_folders, list_files, read_head
from pipeline.data.image_files import IMAGE_SUFFIXES, describe_counts, judge_content, suffix_of
from pipeline.data.map_batches import map_batches
from pipeline.data.names import escape_name, unescape_name
from pipeline.data.objects.url import Location
from pipeline.errors import DatasetError
from pipeline.evaluation.scorer import Decoded, Scorer, decode_files, scorer_of
from pipeline.evaluation.views import Score, ViewAverage, views_of_version
from pipeline.progress import progress_bar

UNREADABLE = "unreadable_file"  # the code of a file that cannot be read at all


@dataclass(frozen=True, slots=True)
class Scored:
    """The counts of one `score`.

    Attributes:
        images: rows with probabilities.
        errors: rows with an error.
        precision: of the arithmetic, such as "float32".
        left_out: files that are not images, in a line; "" if there are none.
        changed_class: images that have another class by test-time augmentation than alone; None without it.
    """

    images: int
    errors: int
    precision: str
    left_out: str = ""
    changed_class: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The scores of one image.

    Attributes:
        path: below the folder.
        probabilities: float32, shape (classes,); None with an error.
        error: its code and message; "" without one.
    """

    path: str
    probabilities: NDArray[np.float32] | None
    error: str = ""


def check_folder(folder: Path) -> None:
    """Refuse a path that is no folder.

    Raises:
        DatasetError: naming it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{escape_name(str(folder))}: expected a folder of images. Received: no such folder")


def score_folder(
    store: ModelStore,
    name: str,
    version: int,
    *,
    folder: Path,
    out: Path,
    precision: str = AUTO,
    tta: int | None = None,
) -> Scored:
    """Write a CSV with one row for each image below a folder, in the order of their paths.

    Columns: path (below the folder), id, label and probability of the most probable class, one `probability_<id>` for
    each class, error. A file that cannot be read or decoded is a row with an error and no probabilities. The CSV
    appears under its name when it is complete.

    Args:
        store: has the version.
        name: the model.
        version: its number.
        folder: is walked with all its subfolders; links to folders are followed, each folder once.
        out: the CSV; replaced if it exists.
        precision: "auto" (a faster one only where the version's verification allows it), or which.
        tta: views of each image over which probabilities are averaged (test-time augmentation), a last column of the
            CSV; None: of the images alone.

    Raises:
        DatasetError: if there is no such folder, it has no images, or the CSV cannot be written.
        PipelineError: if the version was not trained with augmentation, and `tta` asks for it.
        EngineError: if the version cannot be loaded, or not at that precision on this machine.
    """
    check_folder(folder)
    views = views_of_version(store.read_contract(name, version), tta)
    left_out = LeftOut()
    total = sum(1 for _ in walk_images(folder, left_out))
    refuse_empty(folder, total, left_out)
    unfinished = out.with_name(f".{out.name}.part")
    try:
        with (
            scorer_of(store, name, version, precision=precision) as scorer,
            unfinished.open("w", newline="", encoding="utf-8") as file,
        ):
            scored = replace(_write_rows(file, scorer, folder, total, views), left_out=left_out.line)
        unfinished.replace(out)
    except OSError as err:
        raise DatasetError(f"{escape_name(str(out))} cannot be written: {err.strerror or err}") from err
    finally:
        unfinished.unlink(missing_ok=True)
    return scored


@dataclass
class LeftOut:
    """Files that are not scored.

    Attributes:
        suffixes: number of files that are not images, by suffix.
        advice: what the decoder says of other pictures among them, by suffix.
    """

    suffixes: Counter[str] = field(default_factory=Counter)
    advice: dict[str, str] = field(default_factory=dict)

    def judge(self, name: PurePosixPath, verdict: bool | str) -> bool:
        """Return whether a file is an image by what `judge_content` says; count it otherwise."""
        if verdict is True:
            return True
        self.suffixes[suffix_of(name)] += 1
        if isinstance(verdict, str):
            self.advice.setdefault(suffix_of(name), verdict)
        return False

    @property
    def line(self) -> str:
        """The files in one line; "" if there are none."""
        return f"left out, not images: {describe_counts(self.suffixes, self.advice)}" if self.suffixes else ""


def refuse_empty(folder: Location, num_images: int, left_out: LeftOut) -> None:
    """Refuse a folder without images.

    Raises:
        DatasetError: naming the folder and what it holds instead.
    """
    if num_images == 0:
        received = f"none; {left_out.line}" if left_out.line else "none"
        raise DatasetError(
            f"{escape_name(str(folder))}: expected images ({', '.join(sorted(IMAGE_SUFFIXES))}). Received: {received}"
        )


def walk_images(folder: Path, left_out: LeftOut | None = None) -> Iterator[str]:
    """Yield the paths of images below a folder, with forward slashes, sorted within each folder; hidden ones are not.

    An image is known by its suffix or its content. One folder's names are in memory at a time.

    Args:
        folder: is walked; links to folders are followed, each folder once.
        left_out: gets the files that are not images.
    """
    for path in list_files(find_folders(folder)):
        name = PurePosixPath(path)
        verdict = name.suffix.lower() in IMAGE_SUFFIXES or judge_content(
            path,
            lambda path: read_head(folder / unescape_name(path)),
            lambda path: (folder / unescape_name(path)).read_bytes(),
        )
        if (left_out or LeftOut()).judge(name, verdict):
            yield path


def _write_rows(file: Any, scorer: Scorer, folder: Path, total: int, views: ViewAverage | None) -> Scored:
    writer = csv.writer(file)
    labels = scorer.contract.labels
    last = [] if views is None else [str(views.count)]
    writer.writerow([*csv_header(labels), *(["views"] if last else [])])
    changed = 0

    def score(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal changed
        if views is None:
            return scorer(images)
        plain, averaged = views(scorer, images)
        changed += int((plain.argmax(axis=1) != averaged.argmax(axis=1)).sum())
        return averaged

    images = errors = 0
    with progress_bar(total=total, what="Scoring", unit="image") as bar:
        files = decode_files(
            lambda path: (folder / unescape_name(path)).read_bytes(), walk_images(folder), scorer.contract.input
        )
        for rows in map_batches(partial(score_batch, score), files):
            writer.writerows([*csv_row(row, labels), *last] for row in rows)
            bad = sum(1 for row in rows if row.error)
            images, errors = images + len(rows) - bad, errors + bad
            bar.update(len(rows))
    return Scored(images, errors, scorer.engine.precision, changed_class=None if views is None else changed)


def score_batch(scorer: Score, batch: list[tuple[str, Decoded]]) -> list[Row]:
    """Return one row an image, in order.

    Args:
        scorer: a loaded version, or an average by one.
        batch: paths with their pixels, uint8, shape (height, width, channels), or with their errors.

    Raises:
        EngineError: if the model cannot be run.
        VerificationError: if it breaks its contract.
    """
    images = [decoded for _, decoded in batch if isinstance(decoded, np.ndarray)]
    probabilities = iter(scorer(np.stack(images)) if images else np.empty((0, 0), np.float32))
    return [
        Row(path, next(probabilities)) if isinstance(decoded, np.ndarray) else Row(path, None, _describe_error(decoded))
        for path, decoded in batch
    ]


def csv_header(labels: Sequence[Label]) -> list[str]:
    """Return the columns of a CSV of scores."""
    return ["path", "id", "label", "probability", *(f"probability_{label.id}" for label in labels), "error"]


def csv_row(row: Row, labels: Sequence[Label]) -> list[str]:
    """Return the line of one image."""
    if row.probabilities is None:
        return [row.path, *[""] * (3 + len(labels)), row.error]
    best = int(row.probabilities.argmax())
    values = (row.probabilities[best], *row.probabilities)
    return [row.path, labels[best].id, labels[best].name, *map(str, values), ""]


def _describe_error(error: ImageError | OSError) -> str:
    if isinstance(error, ImageError):
        return f"{error.code}: {error}"
    return f"{UNREADABLE}: {error.strerror or error}"
