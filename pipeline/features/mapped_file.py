"""Maps a file into memory without keeping it open: a process may map far more files than it may hold open.

Python's mmap and numpy's memmap hold a descriptor for each file, of which a process has 1024 on most machines.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.regular import open_regular

_FAILED = ctypes.c_void_p(-1).value


class _Mapping:
    """Memory that shows a file; the arrays that numpy makes of it hold this object, and the mapping goes with it."""

    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = {"version": 3, "shape": (size,), "typestr": "|u1", "data": (address, True)}
        # Not at the end of the process, when other threads may still read.
        weakref.finalize(self, _library().munmap, address, size).atexit = False


def map_file(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a regular file, read when they are asked for; they stay when the file is removed.

    Raises:
        OSError: if it cannot be opened or mapped.
    """
    handle = open_regular(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        if not size:
            return np.empty(0, np.uint8)
        address = _library().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(handle)
    return np.asarray(_Mapping(address, size))


@cache
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    size, number = ctypes.c_size_t, ctypes.c_int
    library.mmap.argtypes = (ctypes.c_void_p, size, number, number, number, ctypes.c_int64)
    library.mmap.restype = ctypes.c_void_p
    library.munmap.argtypes = (ctypes.c_void_p, size)
    return library
