"""Wraps the lines of two pipes in JSON: what libraries print to stdout and stderr past the log.

`service.logs` starts it as a process of its own, by path, with nothing but the standard library: it reads on when the
process that prints is killed or crashes, so the last lines of that are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import select
import selectors
import signal
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any

MAX_LINE_BYTES = 1 << 20  # a longer line is split
_READ_BYTES = 1 << 16
# As absl and glog begin a line, "E0000 00:00:..." and TensorFlow, "2026-01-31 12:00:00.000000: E ...".
_NATIVE_LEVEL = re.compile(r"(?:\d{4}-\d\d-\d\d [\d:.]+: )?([IWEF])(?:\d{4} \d\d:| )")
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
_FALLBACK_LEVELS = {"stdout": "info", "stderr": "warning"}


def main(sources: list[int]) -> None:
    """Relay until both pipes have ended.

    Args:
        sources: file descriptors to read, for stdout and stderr.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the process does that writes to it
    targets = {sources[0]: ("stdout", 1), sources[1]: ("stderr", 2)}
    pending = dict.fromkeys(sources, b"")
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, _READ_BYTES)
                *lines, pending[key.fd] = (pending[key.fd] + data).split(b"\n")
                if not data or len(pending[key.fd]) > MAX_LINE_BYTES:
                    lines.append(pending[key.fd])
                    pending[key.fd] = b""
                if not data:
                    selector.unregister(key.fd)
                stream, target = targets[key.fd]
                write_lines(target, b"".join(wrap_line(line, stream) for line in lines))


def wrap_line(line: bytes, stream: str) -> bytes:
    """Return a JSON line: the line itself if it is one of ours, nothing for a blank one.

    Args:
        line: without its end.
        stream: "stdout" or "stderr".
    """
    text = line.decode("utf-8", "backslashreplace").rstrip()
    if not text:
        return b""
    if _is_ours(text):  # of a child process that inherits the pipe
        return text.encode() + b"\n"
    found = _NATIVE_LEVEL.match(text)
    level = _LEVELS[found[1]] if found else _FALLBACK_LEVELS[stream]
    document = {"time": format_time(time.time()), "level": level, "logger": stream, "message": text}
    return json.dumps(document).encode() + b"\n"


def format_time(seconds: float) -> str:
    """Return a time in ISO 8601 with milliseconds, such as "2026-01-31T12:00:00.000Z"."""
    whole = int(seconds)
    return f"{_format_second(whole)}.{int(1e3 * (seconds - whole)):03d}Z"


@functools.lru_cache(maxsize=2)
def _format_second(seconds: int) -> str:
    """Return a whole second's text; most lines share theirs with the line before."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _is_ours(text: str) -> bool:
    if not text.startswith('{"time": '):
        return False
    document: Any = None
    with contextlib.suppress(ValueError):
        document = json.loads(text)
    return isinstance(document, dict) and {"time", "level", "logger", "message"} <= document.keys()


def write_lines(target: int, data: bytes) -> None:
    """Writes whole lines; what nothing reads any more is dropped, so that the process that prints goes on."""
    with contextlib.suppress(OSError), _turn_at(target):
        while data:
            try:
                data = data[os.write(target, data) :]
            except BlockingIOError:
                select.select([], [target], [])


@contextlib.contextmanager
def _turn_at(target: int) -> Iterator[None]:
    """Keeps other processes from writing between the parts of a long line.

    The kernel writes to a full pipe or socket in parts. A record lock on the pipe itself is known to every process that
    has it open, and ends with its holder. Files and terminals take a write as a whole.
    """
    if not _is_stream(target):
        yield
        return
    fcntl.lockf(target, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(target, fcntl.LOCK_UN)


@functools.cache
def _is_stream(target: int) -> bool:
    """Return True if a file descriptor is a pipe or a socket."""
    mode = os.fstat(target).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
