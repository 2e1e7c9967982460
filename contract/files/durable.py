"""Writes files that survive a crash: replaced whole or not at all, and synced to the disk before the call returns."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contract.errors import StoreError
from contract.files.regular import open_regular


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Make a folder and hold its lock; file system errors inside become StoreErrors that name the folder."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_regular(root / ".lock", os.O_RDWR | os.O_CREAT), "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as err:
        raise StoreError(f"the model store {root} cannot be written: {err.strerror or err}") from err


def settle(directory: Path) -> None:
    """Set modes 0755 and 0644 and push everything to disk, so that the rename publishes a durable version."""
    try:
        for path in [directory, *directory.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            _sync(path, os.O_RDONLY)
    except OSError as err:
        raise StoreError(f"the new version cannot be written: {err.strerror or err}") from err


def replace_file(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old text or the new, whatever happens."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Push a folder's entries to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_abandoned(parent: Path) -> None:
    """Remove staging folders whose writer is gone: a living one holds a lock on its folder."""
    for directory in parent.iterdir():
        if not directory.is_dir():  # opening a pipe would wait for its writer
            continue
        handle = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(handle)
