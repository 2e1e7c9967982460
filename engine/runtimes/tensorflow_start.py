"""Keeps the notes of TensorFlow's start off stderr.

TensorFlow's static initialisers log while its library is loaded, before TF_CPP_MIN_LOG_LEVEL is read: oneDNN, CUDA,
"All log messages before absl::InitializeLog()". During that import alone, stderr goes through a small process that
drops those lines and passes on all others. It is a process so that the last words of an import that crashes, such as
of a processor without AVX, still come out.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_NOTES = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|(?:[IW]\d{4} \d\d:|\d{4}-\d\d-\d\d [\d:.]+: [IW] )"  # notes and warnings of absl and of TensorFlow
    rb"|(?:E\d{4} \d\d:|\d{4}-\d\d-\d\d [\d:.]+: E ).*"
    rb"(?:Unable to register cu\w+ factory|computation placer already registered|failed call to cuInit)"
    rb"|To enable the following instructions:"
)
_GRACE_S = 5.0  # for the filter to write the rest; a child that the import left behind may hold the pipe


def quiet_tensorflow() -> None:
    """Keep TensorFlow's notes off stderr, from its import on; a level that the environment sets is kept.

    Its errors are raised in Python. It also logs a missing GPU as an error.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # deprecations are for its developers, not its users
    if _LEVEL in os.environ and os.environ[_LEVEL] < "2":
        return  # asked for
    os.environ.setdefault(_LEVEL, "3")  # what ends the process
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds TensorFlow as the other finders do, and runs its import with stderr filtered."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return TensorFlow's own spec; None for any other module."""
        if name != "tensorflow":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = functools.partial(self._import, loader.exec_module)
        return spec

    def _import(self, execute: Any, module: ModuleType) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        with filtered_stderr():
            execute(module)


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Drop TensorFlow's notes from file descriptor 2; where it is closed, do nothing."""
    with contextlib.ExitStack() as stack:
        try:
            kept = os.dup(2)
            stack.callback(os.close, kept)
            command = [sys.executable, "-I", "-S", __file__]
            ends = os.pipe()
            reader = stack.enter_context(os.fdopen(ends[0], "rb"))
            writer = stack.enter_context(os.fdopen(ends[1], "wb"))
            process = subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL, stderr=kept)
        except OSError:  # stderr is closed, or there is no room for a process
            yield
            return
        stack.callback(_end, process)
        os.dup2(writer.fileno(), 2)
        writer.close()
        reader.close()
        stack.callback(os.dup2, kept, 2)
        yield
        if sys.stderr is not None:
            sys.stderr.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait until the filter has written everything."""
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _filter() -> None:
    """Pass on stdin to stderr, a line at a time, without TensorFlow's notes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process whose lines these are
    for line in sys.stdin.buffer:
        if not _NOTES.match(line):
            os.write(2, line)


if __name__ == "__main__":
    _filter()
