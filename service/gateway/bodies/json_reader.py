"""Reads JSON bodies without holding up the event loop, however large they are.

Bodies that take a few milliseconds are parsed here. A helper process (`json_helper`) parses the rest, and returns
arrays in the place of lists of numbers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from service.gateway.bodies.json_document import INVALID_VALUE, check_object, load_object
from service.gateway.bodies.json_helper import LENGTH, MAX_NODES
from service.gateway.context.errors import InvalidArgumentError, TooMuchJsonError, UnavailableError

logger = logging.getLogger("fovea.json")

_OWN_BYTES = 1 << 19  # of a body that is parsed in this process
_OWN_VALUES = 150_000  # likewise
_SEPARATORS = b",[{"
_WAY_ROUND = (
    'send images as base64 ({"b64": "..."}) or numbers as binary data under /v2: either takes a hundredth of the time'
)
_STOP_S = 5.0


class JsonReader:
    """Parses bodies; to be called from threads, large bodies one at a time.

    Args:
        max_values: numbers, texts, lists and objects of a body; more are refused before it is parsed.
    """

    def __init__(self, *, max_values: int) -> None:
        self._max_values = max_values
        self._helper: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        self._closed = False

    def load(self, body: bytes, before_helper: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Return the JSON object that a body is; in a large one, lists of numbers are arrays.

        Args:
            body: JSON.
            before_helper: called if the helper process is to parse it, before it does.

        Raises:
            InvalidArgumentError: if it is none.
            TooMuchJsonError: if it holds more values than are read.
            UnavailableError: if the helper process cannot be used.
        """
        num_values = _count_values(body)
        if num_values > self._max_values:
            raise TooMuchJsonError(
                f"the JSON body holds about {num_values:,} values; the limit is {self._max_values:,} "
                f"(FOVEA_MAX_JSON_VALUES); {_WAY_ROUND}"
            )
        if len(body) <= _OWN_BYTES and num_values <= _OWN_VALUES:
            return load_object(body)
        before_helper()
        kind, value, place = self._ask(body)
        if kind == "syntax":
            raise InvalidArgumentError(f"JSON Parse error: {value} at offset: {place}")
        if kind == "nodes":
            raise TooMuchJsonError(
                f"the JSON body holds more than {MAX_NODES:,} values that are not numbers in lists of equal lengths; "
                f"{_WAY_ROUND}"
            )
        if kind == "value":
            raise InvalidArgumentError(INVALID_VALUE)
        return check_object(value)

    def close(self) -> None:
        """End the helper process; bodies are refused from now on."""
        self._closed = True
        helper = self._helper
        if helper is not None:
            helper.kill()  # a thread that waits for it gets an end of file
            helper.wait(_STOP_S)
            _close_pipes(helper)

    def _ask(self, body: bytes) -> tuple[str, Any, Any]:
        """Let the helper parse; once more with a new helper if the first one dies."""
        with self._lock:
            for _ in range(2):
                if self._closed:
                    break
                try:
                    helper = self._helper = self._helper or _start()
                except OSError as err:
                    logger.error("the helper process for JSON cannot start: %s", err)
                    break
                try:
                    return _exchange(helper, body)
                except (OSError, EOFError, ValueError):
                    self._helper = None
                    _discard(helper)
            else:
                logger.error("the helper process for JSON died twice over a body of %d bytes", len(body))
        raise UnavailableError("the JSON body could not be parsed; try again later, or with less of it")


def _count_values(body: bytes) -> int:
    """Return how many values a document has at most: each follows a comma, a bracket, or a name that follows one.

    Commas in texts count too. The bytes are compared in blocks, so that no more memory is taken than for one.
    """
    data = np.frombuffer(body, np.uint8)
    blocks = (data[start : start + _OWN_BYTES] for start in range(0, len(data), _OWN_BYTES))
    return 1 + sum(int(np.count_nonzero(block == mark)) for block in blocks for mark in _SEPARATORS)


def _start() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", "service.gateway.bodies.json_helper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )


def _exchange(helper: subprocess.Popen[bytes], body: bytes) -> tuple[str, Any, Any]:
    if helper.stdin is None or helper.stdout is None:
        raise EOFError
    helper.stdin.write(LENGTH.pack(len(body)))
    helper.stdin.write(body)
    helper.stdin.flush()
    (size,) = LENGTH.unpack(_read(helper.stdout, LENGTH.size))
    reply: tuple[str, Any, Any] = pickle.loads(_read(helper.stdout, size))
    return reply


def _read(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _discard(helper: subprocess.Popen[bytes]) -> None:
    helper.kill()
    helper.wait(_STOP_S)
    _close_pipes(helper)


def _close_pipes(helper: subprocess.Popen[bytes]) -> None:
    for pipe in (helper.stdin, helper.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
