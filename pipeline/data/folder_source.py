"""Lists and reads the files of a folder. Links to folders are followed, each folder once and by its own name."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.data.image_files import HEAD_BYTES, system_kind
from pipeline.data.names import escape_name, unescape_name
from pipeline.errors import DatasetError

_SPECIAL = "pipe, socket or device"


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name of a folder.

    Attributes:
        first: the name by which its files are listed.
        link: the link that leads to it as well.
    """

    first: PurePosixPath
    link: PurePosixPath


@dataclass
class FolderTree:
    """The folders below a location.

    Attributes:
        location: where the tree begins.
        folders: paths below the location as the file system has them, in the order of their parts; "" is the location.
        aliases: links to folders that are listed under another name.
        system: folders that are left out, by kind, such as "@eaDir".
    """

    location: Path
    folders: list[str] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)
    system: Counter[str] = field(default_factory=Counter)


def find_folders(location: Path) -> FolderTree:
    """List the folders below a location.

    Folders come before links, and links in the order of their paths, so the result does not depend on the order of a
    directory. A link to a folder that holds the link is passed over.

    Raises:
        DatasetError: if a folder cannot be listed.
    """
    tree = FolderTree(location)
    root = os.path.realpath(location)
    seen: dict[str, str] = {}
    links: list[str] = []
    _walk(tree, "", root, seen, links)
    while links:
        link = heapq.heappop(links)
        target = os.path.realpath(location / link)
        parent = os.path.realpath((location / link).parent)
        if _is_within(parent, target) or _is_within(root, target):
            continue
        if target in seen:
            tree.aliases.append(Alias(_shown(seen[target]), _shown(link)))
        else:
            _walk(tree, link, target, seen, links)
    tree.folders.sort(key=lambda path: PurePosixPath(path).parts)
    return tree


def list_names(tree: FolderTree, folder: str) -> tuple[list[str], Counter[str]]:
    """Return the names of a folder's files, sorted, and the files that are left out, by kind.

    Raises:
        DatasetError: if the folder cannot be listed.
    """
    names, left_out = [], Counter[str]()
    for entry in _scan(tree.location, folder):
        if _is_folder(entry):
            continue
        if kind := system_kind(entry.name):
            left_out[kind] += 1
        elif entry.is_symlink() and not Path(entry.path).exists():
            names.append(entry.name)  # a broken link: reading it says so
        elif not _is_file(entry):
            left_out[_SPECIAL] += 1
        else:
            names.append(entry.name)
    return sorted(names), left_out


def list_files(tree: FolderTree) -> Iterator[str]:
    """Yield the paths of all files as text, folder by folder; one folder's names are in memory at a time.

    Raises:
        DatasetError: if a folder cannot be listed.
    """
    for folder in tree.folders:
        for name in list_names(tree, folder)[0]:
            yield escape_name(f"{folder}/{name}" if folder else name)


class FolderSource:
    """Files in a folder.

    Raises:
        DatasetError: if the folder or one below it cannot be listed.
    """

    def __init__(self, location: Path) -> None:
        self.location = location
        tree = find_folders(location)
        self._folders = [_shown(folder) for folder in tree.folders if folder]
        self._files: list[str] = []
        self.aliases = tree.aliases
        self.system = tree.system
        for folder in tree.folders:
            names, left_out = list_names(tree, folder)
            self._files += [f"{folder}/{name}" if folder else name for name in names]
            self.system += left_out

    def list_files(self) -> list[PurePosixPath]:
        """Return every file's path below the folder, sorted."""
        return sorted(map(_shown, self._files))

    def list_folders(self) -> list[PurePosixPath]:
        """Return every folder's path below the folder."""
        return self._folders

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        return (self.location / unescape_name(path)).read_bytes()

    def read_head(self, path: str) -> bytes:
        """Return the first bytes of a file."""
        return read_head(self.location / unescape_name(path))

    def size(self, path: str) -> int:
        """Return the number of bytes of a file; -1 if it is gone."""
        return file_size(self.location / unescape_name(path))

    def __getstate__(self) -> dict[str, Any]:
        """Return the whole path alone: another process reads files that it is told."""
        empty: dict[str, Any] = {"_folders": [], "_files": [], "aliases": [], "system": Counter()}
        return {**empty, "location": self.location.absolute()}


def file_size(path: Path) -> int:
    """Return the number of bytes of a file; -1 if it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def read_head(path: Path) -> bytes:
    """Return the first HEAD_BYTES of a file."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _walk(tree: FolderTree, top: str, real: str, seen: dict[str, str], links: list[str]) -> None:
    """Add a folder and those below it; links among them are added to `links`."""
    waiting = [(top, real)]
    while waiting:
        folder, target = waiting.pop()
        if target in seen:  # within a linked folder: what another name has listed
            tree.aliases.append(Alias(_shown(seen[target]), _shown(folder)))
            continue
        seen[target] = folder
        tree.folders.append(folder)
        for entry in sorted(_scan(tree.location, folder), key=lambda entry: entry.name, reverse=True):
            if not _is_folder(entry):
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            if kind := system_kind(entry.name):
                tree.system[kind] += 1
            elif entry.is_symlink():
                heapq.heappush(links, path)
            else:
                waiting.append((path, f"{target.rstrip('/')}/{entry.name}"))


def _scan(location: Path, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(location / folder) as entries:
            return list(entries)
    except OSError as err:
        raise DatasetError(
            f"{escape_name(str(location / folder))}: expected a folder that can be listed. "
            f"Received: {err.strerror or err}; its images would be missing without a word"
        ) from err


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _shown(path: str) -> PurePosixPath:
    return PurePosixPath(escape_name(path))
