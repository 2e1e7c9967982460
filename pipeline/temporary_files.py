"""The temporary files of one command, its libraries' too, in a folder that goes with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def temporary_files() -> Iterator[None]:
    """Collect temporary files in a folder of their own inside TMPDIR, and remove it at the end, whatever happens.

    A command ends by `os._exit`, without the handlers by which libraries remove their files: TensorFlow keeps the
    source of traced functions, Matplotlib its configuration. Where TMPDIR cannot be written, nothing is collected.
    """
    before, tempdir = os.environ.get("TMPDIR"), tempfile.tempdir
    try:
        folder = tempfile.TemporaryDirectory(prefix="fovea-", ignore_cleanup_errors=True)
    except OSError:
        yield
        return
    try:
        with folder as path:
            os.environ["TMPDIR"] = tempfile.tempdir = path
            yield
    finally:
        tempfile.tempdir = tempdir
        os.environ.pop("TMPDIR", None)
        if before is not None:
            os.environ["TMPDIR"] = before
