"""Gives memory that the process does not need back to the machine."""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

_MAPS, _SIZES = Path("/proc/self/maps"), Path("/proc/self/smaps")
_MAPPING = re.compile(r"([0-9a-f]+-[0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)")
_LIBRARY = re.compile(r"\.so(\.\d+)*$")


def return_freed_memory() -> None:
    """Return freed memory to the operating system, where the C library can (glibc); a few milliseconds.

    Loading a model copies its weights several times, and glibc keeps freed memory for later. Measured on ResNet50 on
    TensorFlow: 2.0 GB resident after loading, 1.5 GB after this call; after unloading, 1.6 GB and 0.76 GB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def drop_mapped_pages(path: Path) -> None:
    """Give back the memory of a file that a library has mapped for reading, where the system says where (Linux).

    The mapping stays: a page that is read afterwards comes from the file again.

    Args:
        path: the file, as it was called when it was mapped; it may have been removed since.
    """
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        span, permissions, *_ = line.split(maxsplit=2)
        # A page that could be written may differ from the file, and would be lost.
        if line.removesuffix(" (deleted)").endswith(f" {path}") and "w" not in permissions:
            _drop(span)


def drop_library_pages() -> None:
    """Give back the memory of code and constants of loaded libraries, where the system says where (Linux).

    TensorFlow's libraries are read once when they are loaded, 400 MB of them, of which a run needs a part. A page that
    is needed comes from the file again, which the system holds in its cache while it has room.
    """
    try:
        lines = _SIZES.read_text().splitlines()
    except OSError:
        return
    for span in _unchanged_parts(lines):
        _drop(span)


def _unchanged_parts(lines: list[str]) -> Iterator[str]:
    """Yield the mappings of libraries that cannot be written and hold no page that differs from the file."""
    span = ""
    for line in lines:
        if mapping := _MAPPING.match(line):
            place, permissions, path = mapping.groups()
            span = place if _LIBRARY.search(path) and "w" not in permissions else ""
        elif span and line.split() == ["Anonymous:", "0", "kB"]:  # else: the loader has put addresses there
            yield span


def _drop(span: str) -> None:
    start, end = (int(address, 16) for address in span.split("-"))
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
