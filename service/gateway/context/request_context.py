"""The request that is being answered: its id, its route and its caller."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

HEADER = "x-request-id"

ID_PATTERN = r"[A-Za-z0-9._:/+=@-]{1,128}"

_ALLOWED = re.compile(ID_PATTERN)
_NONE = "-"
_current: ContextVar[str] = ContextVar("fovea_request_id", default=_NONE)
_caller: ContextVar[str] = ContextVar("fovea_caller", default=_NONE)


def adopt_request_id(sent: str | None) -> str:
    """Make the client's id the current one if it is harmless in a header and a log line, else a new one."""
    request_id = sent if sent and _ALLOWED.fullmatch(sent) else uuid.uuid4().hex
    _current.set(request_id)
    return request_id


def current_request_id() -> str:
    """Return the id of the request that is being answered, "-" outside of one."""
    return _current.get()


def logged_request_id() -> str | None:
    """Return the id of the request that is being answered, None outside of one."""
    request_id = _current.get()
    return None if request_id == _NONE else request_id


def set_caller(caller: str) -> None:
    """Say who sends the current request: a key, or an address without keys."""
    _caller.set(caller)


def current_caller() -> str:
    """Return who sends the request that is being answered, "-" outside of one."""
    return _caller.get()


def name_route(scope: Scope, routes: Iterable[BaseRoute]) -> None:
    """Say in the scope which route was meant, as routing would have; for requests that are refused before that."""
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            scope["route"] = route
            return
