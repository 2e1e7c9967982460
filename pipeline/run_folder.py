"""The folder of one run, and the name that a set gives its model."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import DiskError, ResumeError

LATEST = "latest"
RUN_FILE = "run.json"  # the run's location, weights and force
_SUFFIXES = re.compile(r"\.(zip|csv|tsv|parquet)$", re.IGNORECASE)


def new_folder(parent: Path) -> Path:
    """Make and return a folder below a model's runs; names sort by time.

    Raises:
        DiskError: if it cannot be made.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = parent / f"{now}-{secrets.token_hex(3)}"
    try:
        folder.mkdir(parents=True)
    except OSError as err:
        raise DiskError(f"{folder} cannot be made: {err.strerror or err}") from err
    return folder


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run's folder: two processes never write to one.

    Raises:
        ResumeError: if another process holds it, so that the run is still going on.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise ResumeError(f"the run {folder.name} is still going on in another process") from err
        yield
    finally:
        os.close(handle)  # which also lets go of the lock


def default_name(dataset: Path) -> str:
    """Return the folder's or file's name with what a model's name cannot have made into dashes."""
    return clean_name(_SUFFIXES.sub("", Path(os.path.realpath(dataset)).name))


def clean_name(name: str) -> str:
    """Return a name with what a model's name cannot have made into dashes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "model"


def find_stopped(runs_dir: Path, reference: str) -> Path:
    """Return the folder of a run.

    Args:
        runs_dir: where runs are recorded.
        reference: NAME/RUN, NAME/latest or NAME alone, which is the same.

    Raises:
        ResumeError: if there is none.
    """
    name, _, run = reference.partition("/")
    known = sorted(path.parent.name for path in (runs_dir / name).glob(f"*/{RUN_FILE}"))
    if not known:
        raise ResumeError(f"there is no run of {name!r} to go on with in {runs_dir}")
    if run not in ("", LATEST, *known):
        raise ResumeError(f"run: expected {LATEST} or one of {', '.join(known[-5:])}. Received: {run!r}")
    return runs_dir / name / (known[-1] if run in ("", LATEST) else run)
