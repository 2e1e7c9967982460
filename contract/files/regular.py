"""Opens regular files alone: a pipe or a device among the files of a store would be waited for without end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# Opening a pipe without a writer returns at once; on a regular file the flag does nothing. Windows has none.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: if it cannot be read, or is a pipe, a socket or a device.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read()


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file and return its descriptor, which the caller closes.

    Args:
        path: the file.
        flags: as of `os.open`; a file that O_CREAT makes gets the modes that the umask leaves of 0666. Not O_WRONLY,
            with which a pipe has another error.

    Raises:
        OSError: if it cannot be opened, or is a pipe, a socket or a device.
    """
    handle = os.open(path, flags | _AT_ONCE, 0o666)
    try:
        check_mode(path, os.fstat(handle).st_mode)
    except OSError:
        os.close(handle)
        raise
    return handle


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
