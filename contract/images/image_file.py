"""An image file as the readers of formats open it; bounds the work for its parts beside the pixels."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from contract.errors import UndecodableImageError, UnsupportedImageError

_MAX_PARTS = 4096  # of a header; Pillow reads each by itself
_BYTES_A_PART = 256  # of the file, at least, on average, beyond those
_MAX_COPIES = 8  # how often each byte of a file may be read
_SPARE_BYTES = 1 << 20
_TOO_MANY = "the image cannot be decoded: its file consists of too many small parts"

Loaded = TypeVar("Loaded", bound=Image.Image)


@dataclass(slots=True)
class Opened:
    """An image file whose header has been read and whose pixels have not.

    Attributes:
        format: one of `contract.image.FORMATS`.
        image: Pillow's image, not loaded.
        orientation: EXIF orientation, 1 to 8; 1 when the file does not say.
        count_frames: returns the frames or pages.
        load: loads the pixels and returns the picture.
        turns_itself: whether `load` applies the orientation.
    """

    format: str
    image: Image.Image
    orientation: int
    count_frames: Callable[[], int]
    load: Callable[[], Image.Image]
    turns_itself: bool = False


def count_parts(data: bytes) -> Iterator[int]:
    """Count the parts of a file.

    Raises:
        UndecodableImageError: if they are more than a file of its size needs.
    """
    yield from range(_MAX_PARTS + len(data) // _BYTES_A_PART)
    raise UndecodableImageError(_TOO_MANY)


def join_parts(data: bytes, ranges: list[tuple[int, int]]) -> bytes:
    """Return the parts of a file that lie in ranges of places, without a copy if that is all of it."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    if joined[0][0] == 0 and joined[0][1] >= len(data):
        return data
    return b"".join([data[start:end] for start, end in joined])


class ImageFile(io.BytesIO):
    """An image file's bytes, which can be read only so often.

    Args:
        data: the bytes.
        max_reads: how often, beside the pixels.

    Raises:
        UndecodableImageError: from `read`.
    """

    def __init__(self, data: bytes, max_reads: int = _MAX_PARTS) -> None:
        super().__init__(data)
        self._num_bytes = len(data)
        self._reads_left = max_reads
        self._bytes_left = _MAX_COPIES * len(data) + _SPARE_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        data = super().read(size)
        self._reads_left -= 1
        self._bytes_left -= len(data)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise UndecodableImageError(_TOO_MANY)
        return data

    def allow_pixels(self) -> None:
        """Allow the reads that the pixels of a file of this size need."""
        self._reads_left += self._num_bytes // _BYTES_A_PART


def load_pixels(image: Loaded) -> Loaded:
    """Load an image's pixels, after its header, and return it."""
    file: Any = getattr(image, "fp", None)
    if isinstance(file, ImageFile):
        file.allow_pixels()
    image.load()
    return image


def check_extra(extra: str, package: str, what: str, hint: str) -> None:
    """Check that the package which reads a format is installed.

    Args:
        extra: Fovea's extra that brings it.
        package: the package.
        what: the kind of file, such as "a DICOM file".
        hint: where to convert such files, for the message.

    Raises:
        UnsupportedImageError: naming the extra.
    """
    if importlib.util.find_spec(package) is None:
        raise UnsupportedImageError(
            f"expected an image of a format that is installed. Received: {what}; install Fovea's extra '{extra}' to "
            f"read it, or convert it to PNG or JPEG first ({hint})"
        )
