"""The log of every process: one set-up, as text for people or as JSON for programs.

With JSON every line on stdout and stderr is one object: records, warnings, uncaught exceptions, and what libraries
print, natively or not.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import fcntl
import functools
import json
import logging
import logging.config
import os
import subprocess
import sys
import termios
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from service import log_relay
from service.log_relay import format_time, write_lines

logger = logging.getLogger("fovea.process")

FIELDS = "fields"  # attribute of a record: what JSON has beside the message
_CONSOLE = "fovea.console"
_FLAGS = ("--log-format", "--log_format")
_VARIABLE = "FOVEA_LOG_FORMAT"
_INFORMATION = frozenset({"-h", "--help", "--version"})
_DRAIN_S = 1.0  # how long the end of a process waits for its last printed lines

RequestId = Callable[[], str | None]


def set_up_logging(form: str, *, level: str = "info", request_id: RequestId = lambda: None) -> None:
    """Send this process's log to stderr; for `main` functions only, once or again.

    Args:
        form: "text" or "json".
        level: least level that is logged.
        request_id: returns the id of the request that is being answered, None outside of one.
    """
    _open_standard_streams()
    # No line has these, and finding them out costs each record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    is_json = form == "json"
    handlers = _capture_streams() if is_json else (logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr))
    formatter = {"()": JsonFormatter if is_json else TextFormatter, "request_id": request_id}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": formatter},
            "handlers": {
                "stdout": {"()": lambda: handlers[0], "formatter": "line"},
                "stderr": {"()": lambda: handlers[1], "formatter": "line"},
            },
            "root": {"level": level.upper(), "handlers": ["stderr"]},
            "loggers": {
                _CONSOLE: {"level": "INFO", "handlers": ["stdout"], "propagate": False},
                # Its start and stop messages say nothing that the gateway does not say.
                "uvicorn": {"level": "WARNING"},
            },
        }
    )
    logging.captureWarnings(True)
    if is_json:
        _log_uncaught_exceptions()


def wanted_format(argv: Sequence[str], environ: Mapping[str, str]) -> Literal["text", "json"]:
    """Return the format that a command line asks for, before anything else of it is checked; flags win.

    Args:
        argv: the flags.
        environ: the environment; empty for programs that read none.
    """
    wanted = environ.get(_VARIABLE, "")
    for position, word in enumerate(argv):
        flag, separator, value = word.partition("=")
        if flag in _FLAGS:
            wanted = value if separator else "".join(argv[position + 1 : position + 2])
    return "json" if wanted == "json" else "text"


def prepare_log(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Makes every line JSON from here on, if that is set: also lines that an import prints.

    Args:
        argv: the program's flags.
        environ: the environment; empty for programs that read none.
    """
    if wanted_format(argv, environ) == "json" and not asks_for_information(argv):
        set_up_logging("json")


def asks_for_information(argv: Sequence[str]) -> bool:
    """Return whether a command line asks for help or the version, which is text for people in either format."""
    return not _INFORMATION.isdisjoint(argv)


def say(message: str) -> None:
    """Tell the person at the terminal something, on stdout."""
    if _is_json():
        logging.getLogger(_CONSOLE).info("%s", message)
    else:
        print(message, flush=True)  # noqa: T201


def fail(program: str, reason: str, *, usage: str = "") -> None:
    """Write why a program ends; as text it is the last line of stderr, below the usage."""
    if _is_json():
        logging.getLogger(f"fovea.{program}").error("%s", reason)
    else:
        print(*filter(None, (usage, reason)), sep="\n", file=sys.stderr, flush=True)  # noqa: T201


class TextFormatter(logging.Formatter):
    """Time (UTC), level, logger, request id if there is one, text."""

    def __init__(self, request_id: RequestId = lambda: None) -> None:
        super().__init__()
        self._request_id = request_id

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without a traceback."""
        request_id = self._request_id()
        place = f"{record.name} [{request_id}]" if request_id else record.name
        return f"{format_time(record.created)} {record.levelname} {place} {record.message.rstrip()}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; request_id, exception and traceback where there are any."""

    def __init__(self, request_id: RequestId = lambda: None) -> None:
        super().__init__()
        self._request_id = request_id

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; ASCII, so that no reader finds another line's end in it."""
        document: dict[str, Any] = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        if request_id := self._request_id():
            document["request_id"] = request_id
        document.update(getattr(record, FIELDS, {}))
        if record.exc_info and record.exc_info[0] is not None:
            document["exception"] = "".join(traceback.format_exception_only(*record.exc_info[:2])).strip()
            document["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            document["stack"] = record.stack_info
        return _dump(document)


class _LineHandler(logging.Handler):
    """Writes a record as one line to a file descriptor.

    Args:
        target: the file descriptor.
    """

    _writing = threading.RLock()  # of all handlers: stdout and stderr may be one pipe

    def __init__(self, target: int) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record; one that cannot be formatted is named."""
        try:
            line = self.format(record)
        except Exception as err:  # noqa: BLE001  # a library's mistake must not end the caller
            line = _dump(
                {
                    "time": format_time(record.created),
                    "level": "error",
                    "logger": record.name,
                    "message": f"a record that cannot be formatted ({type(err).__name__})",
                }
            )
        with self._writing:
            write_lines(self._target, line.encode("ascii") + b"\n")


def _open_standard_streams() -> None:
    """Opens the null device for a standard stream that is closed, whose number the next file or socket would get."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(number, mode, errors="backslashreplace", closefd=False))


@functools.cache
def _capture_streams() -> tuple[logging.Handler, logging.Handler]:
    """Puts pipes in the place of stdout and stderr, and returns handlers that write to the real ones.

    What this process prints is wrapped in JSON by a process of its own, which goes on when this one crashes; records go
    to the real stderr at once.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    real = [os.dup(number) for number in (1, 2)]
    _start_relay(real)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable(file=2)
    return _LineHandler(real[0]), _LineHandler(real[1])


def _start_relay(real: Sequence[int]) -> None:
    (out_reader, out_writer), (err_reader, err_writer) = os.pipe(), os.pipe()
    try:
        relay = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(log_relay.__file__).resolve()), str(out_reader), str(err_reader)],
            stdin=subprocess.DEVNULL,
            stdout=real[0],
            stderr=real[1],
            pass_fds=(out_reader, err_reader),
            start_new_session=True,  # Ctrl-C in a terminal is not for it
        )
        os.dup2(out_writer, 1)
        os.dup2(err_writer, 2)
    finally:
        for fd in (out_reader, out_writer, err_reader, err_writer):
            os.close(fd)
    threading.Thread(target=_replace_relay, args=(relay, real), name="log-relay", daemon=True).start()
    atexit.register(_drain)


def _replace_relay(relay: subprocess.Popen[bytes], real: Sequence[int]) -> None:
    """Give the real stdout and stderr back if the relay is killed: a pipe without a reader makes every print fail."""
    relay.wait()
    for number, fd in zip((1, 2), real, strict=True):
        os.dup2(fd, number)
    logger.error(
        "the process that wraps printed lines ended with status %d; they are text from now on", relay.returncode
    )


def _drain() -> None:
    """Wait until the relay has read all lines: in a container it dies with the first process."""
    deadline = time.monotonic() + _DRAIN_S
    with contextlib.suppress(OSError, ValueError):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        while any(_count_unread(fd) for fd in (1, 2)) and time.monotonic() < deadline:
            time.sleep(0.002)


def _count_unread(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def _log_uncaught_exceptions() -> None:
    def in_main(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        logger.critical("uncaught exception", exc_info=(kind, value, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            name = args.thread.name if args.thread else "unknown"
            exc_info = (args.exc_type, args.exc_value, args.exc_traceback)
            logger.critical("uncaught exception in thread %s", name, exc_info=exc_info)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        value = args.exc_value
        exc_info = None if value is None else (args.exc_type, value, args.exc_traceback)
        logger.error("%s: %s", args.err_msg or "exception ignored in", _text_of(args.object), exc_info=exc_info)

    sys.excepthook, threading.excepthook, sys.unraisablehook = in_main, in_thread, unraisable


def _is_json() -> bool:
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def _message_of(record: logging.LogRecord) -> str:
    """Return a record's text, also where its arguments do not fit."""
    try:
        return record.getMessage().rstrip()
    except Exception as err:  # noqa: BLE001  # a library's mistake in a log call
        return f"{_text_of(record.msg)} with {_text_of(record.args)} ({type(err).__name__}: {err})"


def _dump(document: dict[str, Any]) -> str:
    """Returns a document as ASCII JSON, as every parser reads it; values that JSON does not have are texts."""
    try:
        return _ENCODER.encode(document)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, NaN, a list that holds itself
        return json.dumps({str(key): _text_of(value) for key, value in document.items()})


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as err:  # noqa: BLE001  # an object without a text of its own
        return f"<{type(value).__name__}: {type(err).__name__}>"


_ENCODER = json.JSONEncoder(default=_text_of, allow_nan=False)  # json.dumps would make one for each line
