"""Lists and reads objects as a folder's files. Only the address is pickled; each process connects by itself."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from pipeline.data.folder_source import Alias
from pipeline.data.image_files import HEAD_BYTES, count_system, is_visible
from pipeline.data.names import escape_name, unescape_name
from pipeline.data.objects.url import ObjectUrl
from pipeline.errors import DatasetError, LostImageError


class ObjectSource:
    """The objects below an address; slashes in their keys are folders.

    Args:
        location: the address.
    """

    def __init__(self, location: ObjectUrl) -> None:
        self.location = location
        self.aliases: list[Alias] = []
        self.system: Counter[str] = Counter()

    def list_sizes(self) -> dict[str, int]:
        """Return the size of every object by its path below the address, sorted; a system's and hidden ones are not.

        Raises:
            DatasetError: if the address cannot be listed.
        """
        files, _ = self._listed
        return files

    def list_files(self) -> list[PurePosixPath]:
        """Return every object's path below the address, sorted by its parts."""
        return sorted(PurePosixPath(path) for path in self.list_sizes())

    def list_folders(self) -> list[PurePosixPath]:
        """Return every folder of objects below the address."""
        return self._listed[1]

    def read(self, path: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: if it is gone.
            LostImageError: if the storage does not give it.
        """
        with self._told(path), self._files.open_input_stream(self._key(path)) as stream:
            return bytes(stream.read())

    def read_head(self, path: str) -> bytes:
        """Return the first bytes of an object."""
        with self._told(path), self._files.open_input_file(self._key(path)) as file:
            return bytes(file.read(HEAD_BYTES))

    def size(self, path: str) -> int:
        """Return the number of bytes of an object, as it was listed; -1 if it was not there."""
        return self.list_sizes().get(path, -1)

    def __getstate__(self) -> dict[str, Any]:
        """Return the address alone: what is open, and keys, stay in this process."""
        return {"location": self.location, "aliases": [], "system": Counter()}

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and bucket and prefix in it."""
        import pyarrow.fs

        try:
            files, root = pyarrow.fs.FileSystem.from_uri(self.location.text)
        except (OSError, ValueError, NotImplementedError) as err:  # pyarrow's errors are of these kinds
            raise DatasetError(f"{self.location}: cannot be opened: {_one_line(err)}") from err
        return files, root.rstrip("/")

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @cached_property
    def _listed(self) -> tuple[dict[str, int], list[PurePosixPath]]:
        import pyarrow.fs

        files, root = self._opened
        try:
            found = files.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
        except (OSError, ValueError) as err:
            raise DatasetError(f"{self.location}: cannot be listed: {_one_line(err)}") from err
        sizes = {}
        folders: set[PurePosixPath] = set()
        hidden = []
        for info in found:
            path = escape_name(info.path[len(root) + 1 :])
            name = PurePosixPath(path)
            if not is_visible(name):
                hidden.append(name)
            elif info.type == pyarrow.fs.FileType.File:
                sizes[path] = int(info.size)
                folders.update(name.parents)
            else:
                folders.add(name)
        self.system = count_system(hidden)
        return dict(sorted(sizes.items())), sorted(folders - {PurePosixPath(".")})

    def _key(self, path: str) -> str:
        return f"{self._opened[1]}/{unescape_name(path)}"

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Tell an object that is gone from a storage that fails: the latter is no fault of the image."""
        try:
            yield
        except FileNotFoundError as err:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path) from err
        except (OSError, ValueError) as err:
            raise LostImageError(f"{self.location}: {path} cannot be read: {_one_line(err)}") from err


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())
