"""The segments of a cache that several runs share: written whole, checked, and deleted, the longest unused first.

A segment is written under another name and renamed, so runs that share the folder need no lock.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from contract.files.regular import read_regular

_ABANDONED_S = 3600.0  # a file under a temporary name that old belongs to no running process


def list_segments(folder: Path, suffix: str, used: Collection[Path]) -> tuple[int, list[tuple[int, Path]]]:
    """Return the bytes of all files of a cache, and size and path of those that may be deleted.

    Args:
        folder: of the cache; each definition has a folder in it.
        suffix: of whole segments; other files are temporary, and may be deleted when they are abandoned.
        used: segments that this process has opened, which stay.
    """
    total, free = 0, []
    abandoned = time.time() - _ABANDONED_S
    for path in folder.glob("*/*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue  # another run made room meanwhile
        total += stat.st_size
        if path not in used and (path.suffix == suffix or stat.st_mtime < abandoned):
            free.append((stat.st_mtime, stat.st_size, path))
    return total, [(size, path) for _, size, path in sorted(free)]


def delete_segments(free: Iterable[tuple[int, Path]], excess: int) -> bool:
    """Delete segments until `excess` bytes are free; return whether they are.

    Args:
        free: size and path of those that may be deleted, as `list_segments` gives them.
        excess: bytes.
    """
    for size, path in free:
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size
    return excess <= 0


def write_segment(folder: Path, suffix: str, *parts: bytes | memoryview) -> Path:
    """Write a segment under a new name, and return its path; it appears whole, or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    name = secrets.token_hex(8)
    temporary, path = folder / f"{name}.tmp", folder / f"{name}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return path


def write_checked(folder: Path, suffix: str, content: bytes) -> Path:
    """Write a segment that begins with the SHA-256 of its content; otherwise as `write_segment`."""
    return write_segment(folder, suffix, hashlib.sha256(content).hexdigest().encode() + b"\n", content)


def read_checked(path: Path) -> bytes:
    """Return the content of a segment that `write_checked` wrote.

    Raises:
        OSError: if it cannot be read.
        ValueError: if its checksum differs.
    """
    digest, _, content = read_regular(path).partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("its checksum differs")
    return content
