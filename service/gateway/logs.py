"""Log lines of the gateway's process, one for each request among them: as text for people or JSON for programs.

A line never holds what was in a body, a query or a header but the request id: no image, no file name, no key.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import time
from dataclasses import dataclass
from typing import Any

from service.gateway.request_context import current_request_id

access_logger = logging.getLogger("fovea.access")

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
QUIET_ROUTES = HEALTH_PATHS | {"/metrics"}  # polled by machines, for ever; logged at level debug
_FIELDS = "fields"  # of a log record: what JSON has beside the message


@dataclass(frozen=True, slots=True)
class RequestLine:
    """What the log says of one request.

    Attributes:
        method: of the request.
        path: as it was asked for.
        route: the pattern that the path matched.
        status: of the reply.
        ms: from the first byte of the request to the last of the reply, milliseconds.
        received: bytes of the request's body.
        sent: bytes of the reply's body.
        client: address.
        key: name of the API key, None without one.
    """

    method: str
    path: str
    route: str
    status: int
    ms: float
    received: int
    sent: int
    client: str
    key: str | None


def log_request(line: RequestLine) -> None:
    """Write a request's line."""
    level = logging.DEBUG if line.route in QUIET_ROUTES else logging.INFO
    if not access_logger.isEnabledFor(level):
        return
    path = _printable(line.path)
    fields = {name: getattr(line, name) for name in RequestLine.__slots__}
    fields |= {"path": path, "ms": round(line.ms, 1)}
    client = f"{line.client} {line.key}" if line.key else line.client
    values = (line.method, path, line.status, line.ms, client)
    # Not access_logger.log, which looks for the calling line: that takes longer than all the rest.
    record = logging.LogRecord(access_logger.name, level, "", 0, "%s %s %d %.1f ms %s", values, None)
    setattr(record, _FIELDS, fields)
    access_logger.handle(record)


def set_up_logging(level: str, form: str = "text") -> None:
    """Send the process's log to stderr; for `main` only.

    Args:
        level: least level that is logged.
        form: "text" or "json".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    # No line has these, and finding them out costs each record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # uvicorn's own start and stop messages say nothing that the gateway does not say.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """Time (UTC), level, logger, request id, text."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without a traceback."""
        request_id = current_request_id()
        return f"{_time(record.created)} {record.levelname} {record.name} [{request_id}] {record.message}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id; for requests the fields of `RequestLine`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one of its fields."""
        document: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": current_request_id(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


def _time(seconds: float) -> str:
    """Return a time in ISO 8601 with milliseconds, such as "2026-01-31T12:00:00.000Z"."""
    whole = int(seconds)
    return f"{_second(whole)}.{int(1e3 * (seconds - whole)):03d}Z"


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    """Return a whole second's text; most lines share theirs with the line before."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _printable(path: str) -> str:
    """Return a path that cannot forge a log line."""
    return path[:200].encode("unicode_escape").decode("ascii")
