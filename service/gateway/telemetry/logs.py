"""The gateway's log: a line for each request.

A line holds nothing of a body, a query or a header but the request id: no image, no file name, no key.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TypedDict

from service.logs import FIELDS

access_logger = logging.getLogger("fovea.access")
# A context variable, since a log record has no other way to the request that it belongs to.
_request_id: ContextVar[str | None] = ContextVar("fovea_logged_request_id", default=None)

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
QUIET_ROUTES = HEALTH_PATHS | {"/metrics"}  # polled by machines, for ever; logged at level debug


class RequestLine(TypedDict):
    """Fields of a request's log line.

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


def set_logged_request_id(request_id: str) -> None:
    """Write this id into the log lines of the current task and of those that it starts."""
    _request_id.set(request_id)


def logged_request_id() -> str | None:
    """Return the id for log lines of the current task, None outside of a request."""
    return _request_id.get()


def log_request(line: RequestLine) -> None:
    """Write a request's line."""
    level = logging.DEBUG if line["route"] in QUIET_ROUTES else logging.INFO
    if not access_logger.isEnabledFor(level):
        return
    fields = {**line, "path": _printable(line["path"]), "ms": round(line["ms"], 1)}
    client = f"{line['client']} {line['key']}" if line["key"] else line["client"]
    values = (line["method"], fields["path"], line["status"], line["ms"], client)
    # Not access_logger.log, which looks for the calling line: that takes longer than all the rest.
    record = logging.LogRecord(access_logger.name, level, "", 0, "%s %s %d %.1f ms %s", values, None)
    setattr(record, FIELDS, fields)
    access_logger.handle(record)


def _printable(path: str) -> str:
    """Return a path that cannot forge a log line."""
    return path[:200].encode("unicode_escape").decode("ascii")
