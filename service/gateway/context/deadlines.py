"""How long a client waits: told in a header, kept for the request, passed on to the model server."""

from __future__ import annotations

import re
import time
from contextvars import ContextVar

from service.gateway.context.errors import DeadlineError, InvalidValueError

HEADER = "x-request-timeout"
MAX_TIMEOUT_S = 3600.0

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,18})?")
_deadline: ContextVar[float | None] = ContextVar("fovea_deadline", default=None)


def parse_timeout(sent: str) -> float:
    """Return the seconds that a header value stands for.

    Raises:
        InvalidValueError: if it is not a number of seconds above 0 and at most an hour.
    """
    text = sent.strip()
    if not _SECONDS.fullmatch(text) or not 0 < float(text) <= MAX_TIMEOUT_S:
        raise InvalidValueError(
            f"{HEADER}: expected seconds above 0 and at most {MAX_TIMEOUT_S:.0f}, such as 2.5. Received: {sent[:32]!r}"
        )
    return float(text)


def set_deadline(timeout_s: float | None) -> None:
    """Let the current request end in so many seconds; None for no end of its own."""
    _deadline.set(None if timeout_s is None else time.monotonic() + timeout_s)


def has_deadline() -> bool:
    """Say whether the current request has an end of its own."""
    return _deadline.get() is not None


def limit_to_deadline(timeout_s: float) -> float:
    """Return the smaller of a time limit and what the client still waits, seconds above 0.

    Raises:
        DeadlineError: if the client has stopped waiting.
    """
    deadline = _deadline.get()
    if deadline is None:
        return timeout_s
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineError("the client's time was over before the model server was asked")
    return min(timeout_s, left)
