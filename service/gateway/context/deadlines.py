"""Reads how long a client waits from its header, and limits calls of the model server to it."""

from __future__ import annotations

import re
import time

from service.gateway.context.errors import DeadlineError, InvalidValueError

HEADER = "x-request-timeout"
MAX_TIMEOUT_S = 3600.0

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,18})?")


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


def limit_to_deadline(timeout_s: float, deadline: float | None) -> float:
    """Return the smaller of a time limit and what the client still waits, seconds above 0.

    Args:
        timeout_s: the limit, seconds.
        deadline: when the client stops waiting, on the clock of `time.monotonic`; None for no end.

    Raises:
        DeadlineError: if the client has stopped waiting.
    """
    if deadline is None:
        return timeout_s
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineError("deadline exceeded before the model server was called")
    return min(timeout_s, left)
