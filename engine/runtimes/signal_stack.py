"""Keeps the signal stack of a thread across work with several OpenVINO cores.

OpenVINO's CPU plugin gives the thread that makes a core a signal stack, and restores the one before when the core ends.
Cores that end in another order than they began leave a freed stack, and the next signal, such as Ctrl-C, kills the
process (openvino 2026.4).
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of the C library."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Restore this thread's signal stack at the end; as a decorator, after the function's objects are gone."""
    library = ctypes.CDLL(None)
    before = _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        gc.collect()  # cores in cycles of references would restore theirs later
        library.sigaltstack(ctypes.byref(before), None)
