"""Images that people have labelled, in a folder that `python -m pipeline run FOLDER/<model>` takes as it is.

    <folder>/<model>/<label>/<id>.jpg      the picture, without metadata
    <folder>/.unlabelled/<model>/<id>.jpg  a picture that waits for its label
    <folder>/index.sqlite3                 the rows: label, request, note, key, time; what a model said of the picture

Image and row appear and go together: the file is renamed into place inside the transaction that writes its row, and
leftovers of a killed process are removed at the next start. Files are readable by their owner only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contract.files.durable import sync_directory
from service.gateway.context.errors import ConflictError, FeedbackNotFoundError, StorageError
from service.gateway.records.clean_images import CleanImage

INDEX = "index.sqlite3"
_INCOMING = ".incoming"
UNLABELLED = ".unlabelled"
NO_LABEL = ""  # of a row whose picture waits for its label
_FILE_NAME = re.compile(r"[0-9a-f]{32}\.(jpg|png)")
# Names that the pipeline does not read as classes.
_RESERVED = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "__macosx"})
_DAY_S = 86400.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    id TEXT PRIMARY KEY, created REAL NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL, contract TEXT NOT NULL,
    label TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL, request_id TEXT, note TEXT, key TEXT,
    consent INTEGER NOT NULL CHECK (consent = 1), UNIQUE (model, sha256)
) STRICT
"""
_JUDGEMENTS = """
CREATE TABLE IF NOT EXISTS review (
    id TEXT PRIMARY KEY, reviewed INTEGER NOT NULL DEFAULT 0, predicted TEXT, probability REAL, margin REAL,
    label_probability REAL, warnings TEXT NOT NULL DEFAULT ''
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Feedback:
    """An image's true class, as a person gave it.

    Attributes:
        model: the model that the image was sent to.
        version: the version whose labels were looked at.
        contract: hash of its contract.
        label: id of the true class, one of the contract's; NO_LABEL of a picture that waits for it.
        request_id: of the prediction that this is about; None if it is not known.
        note: free text; None if there is none.
        key: name of the API key; None without one.
    """

    model: str
    version: int
    contract: str
    label: str
    request_id: str | None
    note: str | None
    key: str | None


def is_folder_name(label: str) -> bool:
    """Return whether a label can be a class's folder as it is."""
    return (
        0 < len(label.encode()) <= 200
        and not label.startswith(".")
        and label == label.strip()
        and not any(character in "/\\:\0" or not character.isprintable() for character in label)
        and label.lower() not in _RESERVED
    )


class FeedbackStore:
    """The folder; every method blocks, for threads.

    Args:
        root: the folder; made by `open`.
        days: how long images are kept.
        max_images: that are kept; further ones are refused.
    """

    def __init__(self, root: Path, *, days: int, max_images: int = 100_000) -> None:
        self._root = root
        self._days = days
        self._max_images = max_images

    def open(self) -> None:
        """Make the folder, remove leftovers of a killed process, delete expired images.

        Raises:
            StorageError: if the folder cannot be written.
        """
        with _storage_errors():
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._root / _INCOMING).mkdir(exist_ok=True, mode=0o700)
            with self._transaction() as index:
                index.execute(_SCHEMA)
                index.execute(_JUDGEMENTS)
                self._repair(index)
        self.purge()

    def add(self, image: CleanImage, feedback: Feedback) -> str:
        """Keep an image; return its id. The same image with the same label is kept once.

        An image that waited for its label gets it; one that is kept with a label is not queued again.

        Raises:
            ConflictError: if the model's folder has the image under another label, or the folder is full.
            StorageError: if it cannot be written.
        """
        digest, new = hashlib.sha256(image.data).hexdigest(), uuid.uuid4().hex
        file = _place(feedback.model, feedback.label, new + image.suffix)
        with _storage_errors():
            incoming = self._write(image.data, self._root / _INCOMING / file.name)
            try:
                with self._transaction() as index:
                    known = index.execute(
                        "SELECT id, label FROM feedback WHERE model = ? AND sha256 = ?", (feedback.model, digest)
                    ).fetchone()
                    if known is None:
                        self._check_room(index)
                        self._insert(index, new, feedback=feedback, file=file, digest=digest)
                        self._move(incoming, self._root / file)
                        return new
            finally:
                incoming.unlink(missing_ok=True)
        if known[1] == NO_LABEL and feedback.label != NO_LABEL:
            self.relabel(known[0], feedback.label, reviewed=False)
        elif feedback.label not in (known[1], NO_LABEL):
            raise ConflictError(
                f"this image is kept with the label {known[1]!r} already, under the id {known[0]}: delete that first"
            )
        return str(known[0])

    def relabel(self, feedback_id: str, label: str, *, reviewed: bool = True) -> None:
        """Give an image a label, or another one, and note whether a reviewer did.

        Raises:
            FeedbackNotFoundError: if there is no such id.
            StorageError: if it cannot be written.
        """
        with _storage_errors():
            old = self._move_to_label(feedback_id, label, reviewed=reviewed)
            if old is not None and old.is_file():
                old.unlink()
                sync_directory(old.parent)
                self._remove_empty(old.parent)

    def _move_to_label(self, feedback_id: str, label: str, *, reviewed: bool) -> Path | None:
        """Copy an image into its class's folder inside the transaction; return the file that is left to remove."""
        with self._transaction() as index:
            row = index.execute("SELECT model, label, file FROM feedback WHERE id = ?", (feedback_id,)).fetchone()
            if row is None:
                raise _not_found()
            index.execute(
                "INSERT INTO review (id, reviewed) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET reviewed = ?",
                (feedback_id, reviewed, reviewed),
            )
            if row[1] == label:
                return None
            old = self._root / str(row[2])
            file = _place(row[0], label, old.name)
            incoming = self._write(_read_kept(old), self._root / _INCOMING / old.name)
            try:
                self._move(incoming, self._root / file)
            finally:
                incoming.unlink(missing_ok=True)
            values = (label, file.as_posix(), feedback_id)
            index.execute("UPDATE feedback SET label = ?, file = ? WHERE id = ?", values)
            return old

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the index to a reader; what it writes is kept too.

        Raises:
            StorageError: if the index cannot be read.
        """
        with _storage_errors(), self._transaction() as index:
            yield index

    def read_image(self, feedback_id: str) -> CleanImage:
        """Return an image that is kept.

        Raises:
            FeedbackNotFoundError: if there is no such id, or its file is gone.
            StorageError: if it cannot be read.
        """
        with _storage_errors(), self._transaction() as index:
            row = index.execute("SELECT file FROM feedback WHERE id = ?", (feedback_id,)).fetchone()
            if row is None:
                raise _not_found()
            path = self._root / row[0]
            return CleanImage(_read_kept(path), path.suffix)

    def _check_room(self, index: sqlite3.Connection) -> None:
        number = index.execute("SELECT COUNT(*) FROM feedback").fetchone()[0]
        if number >= self._max_images:
            raise ConflictError(
                f"the folder for feedback has {number:,} images; the limit is {self._max_images:,} "
                "(FOVEA_FEEDBACK_MAX_IMAGES): delete some on the page /review"
            )

    def delete(self, feedback_id: str) -> None:
        """Delete an image and everything known of it.

        Raises:
            FeedbackNotFoundError: if there is no such id.
            StorageError: if it cannot be deleted.
        """
        with _storage_errors(), self._transaction() as index:
            row = index.execute("SELECT id, file FROM feedback WHERE id = ?", (feedback_id,)).fetchone()
            if row is not None:
                self._remove(index, [row])
        if row is None:
            raise _not_found()

    def purge(self) -> int:
        """Delete images that are older than the retention; return their number.

        Raises:
            StorageError: if it cannot be deleted.
        """
        before = time.time() - self._days * _DAY_S
        with _storage_errors(), self._transaction() as index:
            rows = index.execute("SELECT id, file FROM feedback WHERE created < ?", (before,)).fetchall()
            self._remove(index, rows)
        return len(rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the index, locked for writing against every other process; commit at the end, or undo."""
        index = sqlite3.connect(self._root / INDEX, timeout=30, isolation_level=None)
        try:
            index.execute("PRAGMA secure_delete = ON")  # a deleted note is overwritten, not only forgotten
            index.execute("BEGIN IMMEDIATE")
            try:
                yield index
            except BaseException:
                index.execute("ROLLBACK")
                raise
            index.execute("COMMIT")
        finally:
            index.close()

    def _insert(
        self, index: sqlite3.Connection, feedback_id: str, *, feedback: Feedback, file: Path, digest: str
    ) -> None:
        values = {
            "id": feedback_id,
            "created": time.time(),
            "model": feedback.model,
            "version": feedback.version,
            "contract": feedback.contract,
            "label": feedback.label,
            "file": file.as_posix(),
            "sha256": digest,
            "request_id": feedback.request_id,
            "note": feedback.note,
            "key": feedback.key,
            "consent": 1,
        }
        places = ", ".join(f":{name}" for name in values)
        index.execute(f"INSERT INTO feedback ({', '.join(values)}) VALUES ({places})", values)

    def _write(self, data: bytes, path: Path) -> Path:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def _move(self, source: Path, target: Path) -> None:
        for folder in (target.parent.parent, target.parent):
            folder.mkdir(exist_ok=True, mode=0o700)
            sync_directory(folder.parent)
        source.rename(target)
        sync_directory(target.parent)

    def _remove(self, index: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
        for feedback_id, file in rows:
            path = self._root / file
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_directory(path.parent)
                self._remove_empty(path.parent)
            index.execute("DELETE FROM feedback WHERE id = ?", (feedback_id,))
            index.execute("DELETE FROM review WHERE id = ?", (feedback_id,))

    def _remove_empty(self, folder: Path) -> None:
        """Remove a class's folder that is empty: to the pipeline it would be a class without images."""
        with contextlib.suppress(OSError):
            folder.rmdir()

    def _repair(self, index: sqlite3.Connection) -> None:
        """Remove files without a row and rows without a file; files that people put there have other names."""
        rows = index.execute("SELECT id, file FROM feedback").fetchall()
        self._remove(index, [row for row in rows if not (self._root / row[1]).is_file()])
        known = {file for _, file in rows}
        for path in self._root.glob("*/*/*"):
            if _FILE_NAME.fullmatch(path.name) and path.relative_to(self._root).as_posix() not in known:
                path.unlink()
                self._remove_empty(path.parent)
        for path in (self._root / _INCOMING).iterdir():
            path.unlink()


def _place(model: str, label: str, name: str) -> Path:
    """Return a file's path below the folder."""
    return Path(UNLABELLED, model, name) if label == NO_LABEL else Path(model, label, name)


def _read_kept(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as err:
        raise FeedbackNotFoundError(
            "the file of this image is gone from the folder for feedback: delete its entry on the page /review"
        ) from err


def _not_found() -> FeedbackNotFoundError:
    return FeedbackNotFoundError("no feedback is kept under this id")


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as err:
        raise StorageError("the feedback cannot be stored or deleted now") from err
