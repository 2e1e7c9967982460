"""Checks of the paths on a command line, made before anything slow is imported."""

from __future__ import annotations

import difflib
import os
import tempfile
from pathlib import Path

from pipeline.data.objects.url import Location
from pipeline.errors import DatasetError, PipelineError


def check_dataset(path: Location) -> None:
    """Refuse a set of images that does not exist; an address passes, listing it tells.

    Raises:
        DatasetError: naming the path and the nearest name beside it.
    """
    if not isinstance(path, Path):
        return
    if not path.exists():
        raise DatasetError(
            f"{path}: expected a folder, zip or table of images. Received: no such file or folder{_nearest(path)}"
        )
    if not path.is_dir() and not path.is_file():
        raise DatasetError(f"{path}: expected a folder, zip or table of images. Received: a pipe, socket or device")


def check_folder(path: Path, what: str) -> None:
    """Refuse a path that is not a folder.

    Args:
        path: of the command line.
        what: the kind of folder, such as "a folder of images".

    Raises:
        PipelineError: naming the path and the nearest name beside it.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "no such folder"
        raise PipelineError(f"{path}: expected {what}. Received: {found}{_nearest(path)}")


def check_file(path: Path | None, option: str) -> None:
    """Refuse an option's file that does not exist; None passes.

    Raises:
        PipelineError: naming the option, the path and the nearest name beside it.
    """
    if path is not None and not path.is_file():
        found = "a folder" if path.exists() else "no such file"
        raise PipelineError(f"{option}: expected a file. Received: {found}, {path}{_nearest(path)}")


def check_output(path: Path | None, option: str = "--out") -> None:
    """Refuse an option's file to write whose folder does not exist or cannot be written to; None passes.

    Raises:
        PipelineError: naming the option and the folder.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise PipelineError(
            f"{option}: {path} cannot be written: its folder does not exist; make it with: mkdir -p {path.parent}"
        )
    if path.is_dir():
        raise PipelineError(f"{option}: {path} cannot be written: it is a folder; name a file")
    check_folder_to_write(path.parent, option)


def check_folder_to_write(path: Path, option: str) -> None:
    """Refuse a folder that cannot be made or written to; nothing is made.

    Raises:
        PipelineError: naming the option, the folder and the reason.
    """
    existing = path
    try:
        existing = next(folder for folder in (path, *Path(os.path.realpath(path)).parents) if folder.exists())
        with tempfile.TemporaryFile(dir=existing):  # permissions alone tell root nothing, nor of a full disk
            pass
    except OSError as err:
        where = "" if existing == path else f" in {existing}"
        raise PipelineError(f"{option}: {path} cannot be written{where}: {err.strerror or err}") from err


def _nearest(path: Path) -> str:
    """Return a hint at the name beside a missing path that is most like it."""
    if path.exists():
        return ""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""
