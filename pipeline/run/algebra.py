"""Limits numpy's and scipy's linear algebra to one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded_algebra() -> Iterator[None]:
    """Keep BLAS on one thread: its threads wait in a loop, and on small matrices they wait more than they compute.

    TensorFlow and OpenVINO have threads of their own.
    """
    with threadpool_limits(1, user_api="blas"):
        yield
