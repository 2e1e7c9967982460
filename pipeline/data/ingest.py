"""A folder, a zip or a table of images to a list of labelled examples; no pixel is decoded here.

Understood layouts, inside any depth of wrapping folders that hold nothing else:

    train/<class>/**   test/<class>/** (optional)   val/<class>/** (optional)
    <class>/**
    a CSV or Parquet file with the columns path, label and, if wanted, group and split (pipeline/data/tables.py)

Hidden files and folders and what macOS and Windows add are passed over. A zip is read in place, never unpacked, so a
hostile name can write nothing; such names are refused all the same, because an archive that has them is not what its
user thinks it is.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from pipeline.data.tables import TABLE_SUFFIXES, TableRow, TableSource, read_rows
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Column

Split = Literal["train", "val", "test"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
_SPLIT_FOLDERS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SYSTEM_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_LAYOUT = "expected train/<class>/<image> (and test/<class>/<image>), or <class>/<image>"
MAX_MEMBER_BYTES = 512 * 1024**2  # of one file inside a zip, unpacked
MAX_EXPANSION = 50  # unpacked / packed bytes of a whole zip; images hardly shrink


class Source(Protocol):
    """Where the bytes of a set's files come from."""

    @property
    def location(self) -> Path:
        """The folder, the zip or the table."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes; OSError if they cannot be had."""


class Tree(Source, Protocol):
    """A source whose folders say what is what."""

    def list_files(self) -> list[PurePosixPath]:
        """Return every file's path below the source, sorted."""

    def list_folders(self) -> list[PurePosixPath]:
        """Return every folder's path below the source."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled image.

    Attributes:
        path: below the source, with forward slashes.
        label: the class folder's name, or the table's label.
        split: where the set's own folders or its table put it; None when the set leaves that open.
        name: the path below the class folder, or the table's path, which group rules are matched against.
        group: the table's; None without such a column.
    """

    path: str
    label: str
    split: Split | None
    name: str
    group: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A set of labelled images.

    Attributes:
        source: reads the bytes.
        examples: sorted by path.
        labels: class names of the training images, sorted: the class index order.
        ignored: number of files left out because they are not images, by suffix.
    """

    source: Source
    examples: tuple[Example, ...]
    labels: tuple[str, ...]
    ignored: Mapping[str, int]


class FolderSource:
    """Files in a folder; links are followed, once each."""

    def __init__(self, location: Path) -> None:
        self.location = location
        self._folders: list[PurePosixPath] = []
        self._files: list[PurePosixPath] = []
        seen: set[str] = set()
        for top, folders, files in os.walk(location, followlinks=True):
            real = os.path.realpath(top)
            if real in seen:  # a link back up would walk for ever
                folders.clear()
                continue
            seen.add(real)
            below = PurePosixPath(Path(top).relative_to(location).as_posix())
            self._folders += [below / name for name in folders]
            self._files += [below / name for name in files]

    def list_files(self) -> list[PurePosixPath]:
        """Return every file's path below the folder, sorted."""
        return sorted(self._files)

    def list_folders(self) -> list[PurePosixPath]:
        """Return every folder's path below the folder."""
        return self._folders

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        return (self.location / path).read_bytes()


class ZipSource:
    """Files in a zip, read in place.

    Raises:
        DatasetError: if the file is not a zip, is encrypted, names a path outside itself, holds a link, or would
            unpack to far more than its size.
    """

    def __init__(self, location: Path) -> None:
        self.location = location
        try:
            self._zip = zipfile.ZipFile(location)
        except (zipfile.BadZipFile, OSError) as err:
            raise DatasetError(f"{location.name}: expected a folder or a zip. Received: {err}") from err
        members = self._zip.infolist()
        for member in members:
            _check_member(location.name, member)
        unpacked = sum(member.file_size for member in members)
        if unpacked > MAX_EXPANSION * max(location.stat().st_size, 1):
            raise DatasetError(
                f"{location.name}: expected at most {MAX_EXPANSION} times its size unpacked. Received: {unpacked} "
                f"bytes from {location.stat().st_size}; unpack it by hand if you trust it"
            )
        self._files = [PurePosixPath(member.filename) for member in members if not member.is_dir()]
        folders = {PurePosixPath(member.filename) for member in members if member.is_dir()}
        self._folders = folders.union(*(path.parents for path in self._files))

    def list_files(self) -> list[PurePosixPath]:
        """Return every file's path inside the zip, sorted."""
        return sorted(self._files)

    def list_folders(self) -> list[PurePosixPath]:
        """Return every folder's path inside the zip."""
        return list(self._folders)

    def read(self, path: str) -> bytes:
        """Return a file's bytes; a damaged one raises OSError, as in a folder."""
        try:
            return self._zip.read(path)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as err:
            raise OSError(f"damaged in the zip: {err}") from err


def ingest(location: Path, columns: Mapping[Column, str] | None = None) -> Dataset:
    """List the labelled images of a folder, a zip, a CSV or a Parquet file.

    Args:
        location: where they are.
        columns: names of a table's columns that differ from path, label, group and split.

    Raises:
        DatasetError: if there are no images, fewer than two classes, a class without training images, images
            outside a class folder, or a table with anything wrong in it.
    """
    if not location.exists():
        raise DatasetError(f"{location}: expected a folder, zip or table of images. Received: no such file or folder")
    if location.is_file() and location.suffix.lower() in TABLE_SUFFIXES:
        return _ingest_table(location, columns)
    return _ingest_tree(FolderSource(location) if location.is_dir() else ZipSource(location))


def _ingest_tree(source: Tree) -> Dataset:
    name = source.location.name
    files = [path for path in source.list_files() if _is_visible(path)]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = (path.suffix.lower() for path in files)
    ignored = Counter(suffix or "(no suffix)" for suffix in others if suffix not in IMAGE_SUFFIXES)
    if not images:
        received = f"{len(files)} files, none of them an image" if files else "nothing"
        raise DatasetError(f"{name} has no images: {_LAYOUT}. Received: {received}")
    root = _unwrapped(images)
    examples = tuple(_example(path, root) for path in images)
    folders = [path for path in source.list_folders() if _is_visible(path)]
    labels = _check_classes(name, examples, _class_folders(folders, root))
    return Dataset(source, examples, labels, dict(ignored))


def _ingest_table(location: Path, columns: Mapping[Column, str] | None) -> Dataset:
    rows = sorted(read_rows(location, columns), key=lambda row: row.path)
    examples = tuple(
        Example(row.path, row.label, _table_split(location.name, row), row.path, row.group) for row in rows
    )
    return Dataset(TableSource(location), examples, _check_classes(location.name, examples, set()), {})


def _table_split(table: str, row: TableRow) -> Split | None:
    if row.split is None:
        return None
    if row.split.lower() not in _SPLIT_FOLDERS:
        raise DatasetError(f"{table}: expected the split train, val or test. Received: {row.split!r} in row {row.line}")
    return _SPLIT_FOLDERS[row.split.lower()]


def _check_member(archive: str, member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or (path.parts and ":" in path.parts[0]):
        raise DatasetError(f"{archive}: expected paths inside the archive. Received: {member.filename!r}")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DatasetError(f"{archive}: expected files and folders. Received: a link, {member.filename!r}")
    if member.flag_bits & 0x1:
        raise DatasetError(
            f"{archive}: expected an archive without a password. Received: {member.filename!r} encrypted"
        )
    if member.file_size > MAX_MEMBER_BYTES:
        raise DatasetError(
            f"{archive}: expected files of at most {MAX_MEMBER_BYTES} bytes. Received: {member.filename!r} of "
            f"{member.file_size}"
        )


def _is_visible(path: PurePosixPath) -> bool:
    return not any(part.startswith(".") or part in _SYSTEM_NAMES for part in path.parts)


def _unwrapped(images: Iterable[PurePosixPath]) -> PurePosixPath:
    """Return the deepest folder that wraps every image and is neither a split nor a class."""
    parents = [path.parent.parts for path in images]
    root: list[str] = []
    for level in zip(*parents, strict=False):
        # The last folder level belongs to the classes, even when there is one class only.
        is_last = any(len(parts) == len(root) + 1 for parts in parents)
        if len(set(level)) > 1 or level[0].lower() in _SPLIT_FOLDERS or is_last:
            break
        root.append(level[0])
    return PurePosixPath(*root)


def _example(path: PurePosixPath, root: PurePosixPath) -> Example:
    parts = path.relative_to(root).parts
    split = _SPLIT_FOLDERS.get(parts[0].lower()) if len(parts) > 1 else None
    below = parts[1:] if split else parts
    if len(below) < 2:
        raise DatasetError(f"{path} is outside a class folder: {_LAYOUT}")
    return Example(str(path), below[0], split, "/".join(below[1:]))


def _class_folders(folders: Iterable[PurePosixPath], root: PurePosixPath) -> set[str]:
    """Return the class folders that train, whether they hold images or not."""
    inside = [path.relative_to(root).parts for path in folders if path.is_relative_to(root)]
    has_splits = any(parts and parts[0].lower() in _SPLIT_FOLDERS for parts in inside)
    if not has_splits:
        return {parts[0] for parts in inside if parts}
    return {parts[1] for parts in inside if len(parts) > 1 and _SPLIT_FOLDERS.get(parts[0].lower()) == "train"}


def _check_classes(name: str, examples: Iterable[Example], folders: set[str]) -> tuple[str, ...]:
    examples = list(examples)
    if any(e.split is None for e in examples) and any(e.split for e in examples):
        odd = next(e.path for e in examples if e.split is None)
        raise DatasetError(f"{name} mixes two layouts: {_LAYOUT}. Received: {odd} without a split, others with one")
    training = {e.label for e in examples if e.split in (None, "train")}
    if not training:
        raise DatasetError(f"{name} has no training images: {_LAYOUT}. Received: no image under train/")
    if empty := sorted(folders - training):
        raise DatasetError(f"{name}: expected images in every class folder. Received: none in {', '.join(empty)}")
    if unknown := sorted({e.label for e in examples} - training):
        raise DatasetError(
            f"{name}: expected every class to have training images. Received: {', '.join(unknown)} without any"
        )
    if len(training) < 2:
        raise DatasetError(f"{name}: expected at least two classes. Received: one, {', '.join(training)}")
    return tuple(sorted(training))
