"""The request that is being answered, as every layer is given it: id, caller, deadline, held bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

HEADER = "x-request-id"

ID_PATTERN = r"[A-Za-z0-9._:/+=@-]{1,128}"
ANONYMOUS: Final = "-"

_ALLOWED = re.compile(ID_PATTERN)
_SCOPE_KEY: Final = "fovea.request"  # ASGI has no other way from a middleware to a route


class Hold(Protocol):
    """Counts the bytes of bodies that one request holds."""

    def add(self, num_bytes: int) -> None:
        """Count bytes.

        Raises:
            OverloadedError: if all requests together hold too many.
        """


@dataclass(slots=True)
class RequestContext:
    """One request. Middleware fills it in; everything behind the routes only reads it.

    Attributes:
        id: the client's, or a new one.
        key: name of the API key; None without one.
        caller: the key or the address, whose turn is taken in queues.
        deadline: when the client stops waiting, on the clock of `time.monotonic`; None for no limit.
        hold: counts the bytes of the body; None where bodies are not counted.
        headers: names, in lower case, and values as they were sent.
    """

    id: str
    key: str | None = None
    caller: str = ANONYMOUS
    deadline: float | None = None
    hold: Hold | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()


def open_context(scope: Scope, sent_id: str | None) -> RequestContext:
    """Put a new context into an ASGI scope.

    Args:
        scope: of the request.
        sent_id: the client's id; replaced unless it is harmless in a header and a log line.
    """
    request_id = sent_id if sent_id and _ALLOWED.fullmatch(sent_id) else new_request_id()
    context = scope[_SCOPE_KEY] = RequestContext(request_id, headers=scope["headers"])
    return context


def new_request_id() -> str:
    """Return an id for a request whose client sends none: 32 hexadecimal digits, unique without coordination."""
    return os.urandom(16).hex()


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request from its ASGI scope."""
    context: RequestContext = scope[_SCOPE_KEY]
    return context


def name_route(scope: Scope, routes: Iterable[BaseRoute]) -> None:
    """Say in the scope which route was meant, as routing would have; for requests that are refused before that."""
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            scope["route"] = route
            return
