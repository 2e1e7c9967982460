"""Lists the segments of a cache that several runs share: which may be deleted, the longest unused first."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

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
