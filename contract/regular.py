"""Reads regular files alone: a pipe or a device among the files of a store would be waited for without end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# Opening a pipe without a writer returns at once; on a regular file the flag does nothing. Windows has none.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: if it cannot be read, or is a pipe, a socket or a device.
    """
    with open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS)) as file:
        check_mode(path, os.fstat(file.fileno()).st_mode)
        return file.read()


def check_regular(path: Path) -> None:
    """Check a file that another library opens.

    Raises:
        OSError: if it is a pipe, a socket or a device, or there is none.
    """
    check_mode(path, path.stat().st_mode)


def check_mode(path: Path, mode: int) -> None:
    """Check a file's mode.

    Raises:
        OSError: if it is a pipe, a socket or a device.
    """
    if not stat.S_ISREG(mode):
        raise OSError(
            errno.EINVAL, f"expected a regular file. Received: {_KINDS.get(stat.S_IFMT(mode), 'another')}", str(path)
        )


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
