"""Tells which files of a set are images: by suffix, else by content; and which are left by a system, not by a user."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from contract.errors import ImageError, UnsupportedImageError
from contract.image import read_header
from contract.images.formats import find_format

# A file with one of these is an image, a damaged one too.
IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
)
HEAD_BYTES = 256  # of a file, to tell its format
# What file systems, network storage and programs put beside images. Compared without case.
_SYSTEM_NAMES = {
    name.lower(): name
    for name in (
        "__MACOSX",
        ".AppleDouble",
        ".DS_Store",
        ".ipynb_checkpoints",
        ".thumbnails",
        "@eaDir",
        "@tmp",
        "@Recycle",
        "@Recently-Snapshot",
        "@__thumb",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "Thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "Icon\r",
        "__pycache__",
    )
}
_FORMATS_OF_EXTRAS = ("HEIC", "DICOM")  # without its extra, the decoder gives advice on such a file
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)


@dataclass(frozen=True)
class ImageFiles:
    """The files of a set, sorted into images and others.

    Attributes:
        images: paths below the source.
        others: paths of files that are not images.
        advice: what the decoder says of other pictures, by suffix, such as of DICOM files.
    """

    images: list[PurePosixPath]
    others: list[PurePosixPath]
    advice: Mapping[str, str] = field(default_factory=dict)


def find_images(
    files: Iterable[PurePosixPath], read_head: Callable[[str], bytes], read: Callable[[str], bytes]
) -> ImageFiles:
    """Sort files into images and others.

    Args:
        files: paths below a source.
        read_head: gives the first HEAD_BYTES of a file.
        read: gives a whole file.
    """
    images: list[PurePosixPath] = []
    others: list[PurePosixPath] = []
    advice: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
            continue
        verdict = judge_content(str(path), read_head, read)
        (images if verdict is True else others).append(path)
        if isinstance(verdict, str):
            advice.setdefault(suffix_of(path), verdict)
    return ImageFiles(images, others, advice)


def judge_content(path: str, read_head: Callable[[str], bytes], read: Callable[[str], bytes]) -> bool | str:
    """Return True for an image that the decoder reads, its advice for another picture, and False for other files."""
    try:
        head = read_head(path)
        if head[:2] == b"BM" and not _is_bitmap(head):
            return False
        name = find_format(head)
        if name in _FORMATS_OF_EXTRAS:
            read_header(read(path))
        return name is not None
    except UnsupportedImageError as err:
        return str(err).partition("Received: ")[2] or str(err)
    except ImageError:  # an image, and a damaged one: the audit names it
        return True
    except OSError:
        return False


def count_suffixes(paths: Iterable[PurePosixPath]) -> dict[str, int]:
    """Return the number of files by suffix."""
    return dict(Counter(suffix_of(path) for path in paths))


def suffix_of(path: PurePosixPath) -> str:
    """Return a file's suffix in lower case, "(no suffix)" where it has none."""
    return path.suffix.lower() or "(no suffix)"


def describe_counts(counts: Mapping[str, int], advice: Mapping[str, str] | None = None) -> str:
    """Return counts by suffix or name in one line, such as "3 .ppm, 20 .dcm (a DICOM file; ...)"."""
    said = advice or {}
    return ", ".join(
        f"{count} {name}{f' ({said[name]})' if name in said else ''}" for name, count in sorted(counts.items())
    )


def system_kind(name: str) -> str | None:
    """Return the kind of a file or folder that is left by a system or hidden, such as "@eaDir"; None for others."""
    if name.startswith("._"):
        return "._*"
    return _SYSTEM_NAMES.get(name.lower()) or ("hidden" if name.startswith(".") else None)


def count_system(paths: Iterable[PurePosixPath]) -> Counter[str]:
    """Return the number of system files and folders by kind; what is inside such a folder counts with it."""
    found: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for path in paths:
        for depth, part in enumerate(path.parts, 1):
            if kind := system_kind(part):
                found[kind].add(path.parts[:depth])
                break
    return Counter({kind: len(places) for kind, places in found.items()})


def is_visible(path: PurePosixPath) -> bool:
    """Return whether no part of a path is hidden or a system's."""
    return not any(system_kind(part) for part in path.parts)


def _is_bitmap(head: bytes) -> bool:
    """Return whether a file that begins with BM, as a text may, is a BMP image."""
    return int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES
