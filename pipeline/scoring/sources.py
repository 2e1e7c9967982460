"""The images that are scored: the files of a folder, or objects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol, Self

from pipeline.data.folder_source import file_size
from pipeline.data.image_files import IMAGE_SUFFIXES, judge_content
from pipeline.data.names import unescape_name
from pipeline.data.objects.source import ObjectSource
from pipeline.data.objects.url import Location, ObjectUrl
from pipeline.scoring.score_folder import LeftOut, check_folder, walk_images
from pipeline.units.parts import check_filled
from pipeline.units.plan import Listed

_READERS = 16  # objects read at a time: an object takes milliseconds in which a core has nothing to do


class Images(Protocol):
    """Lists and reads images; can be pickled."""

    @property
    def num_readers(self) -> int:
        """Threads that read ahead of decoding; 0 where decoding threads read."""

    def list(self, left_out: LeftOut) -> list[Listed]:
        """Return the images, sorted by path; files that are not images are counted in `left_out`."""

    def read(self, path: str) -> bytes:
        """Return an image's bytes; OSError if the image cannot be had, LostImageError if none can."""

    def check(self) -> None:
        """Raise LostImageError if the images cannot be read from this machine."""

    def for_worker(self) -> Self:
        """Return the images for another process."""


def images_at(location: Location) -> Images:
    """Return the images of a folder or an address of object storage.

    Raises:
        DatasetError: if there is no such folder.
    """
    if isinstance(location, ObjectUrl):
        return ObjectImages(ObjectSource(location))
    check_folder(location)
    return FolderImages(location)


@dataclass(frozen=True)
class FolderImages:
    """Files below a folder; links to folders are followed, each folder once."""

    folder: Path
    num_readers: int = 0

    def list(self, left_out: LeftOut) -> list[Listed]:
        """Return the images, sorted by path; one that is gone has the size -1."""
        return [
            Listed(path, file_size(self.folder / unescape_name(path)))
            for path in sorted(walk_images(self.folder, left_out))
        ]

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        return (self.folder / unescape_name(path)).read_bytes()

    def check(self) -> None:
        """Raise LostImageError if the folder is not there, or empty."""
        check_filled(self.folder)

    def for_worker(self) -> FolderImages:
        """Return the folder by its whole path."""
        return replace(self, folder=self.folder.absolute())


@dataclass(frozen=True)
class ObjectImages:
    """Objects below an address."""

    source: ObjectSource = field(repr=False)
    num_readers: int = _READERS

    def list(self, left_out: LeftOut) -> list[Listed]:
        """Return the images, sorted by path."""
        return [Listed(path, size) for path, size in self.source.list_sizes().items() if self._is_image(path, left_out)]

    def read(self, path: str) -> bytes:
        """Return an object's bytes."""
        return self.source.read(path)

    def check(self) -> None:
        """Pass: `read` tells a storage that fails from an object that is gone."""

    def for_worker(self) -> ObjectImages:
        """Return the same; another process connects by itself."""
        return self

    def _is_image(self, path: str, left_out: LeftOut) -> bool:
        name = PurePosixPath(path)
        if name.suffix.lower() in IMAGE_SUFFIXES:
            return True
        return left_out.judge(name, judge_content(path, self.source.read_head, self.source.read))
