"""Shortens what Keras raises to one plain line."""

from __future__ import annotations

import re

_LONGEST = 300  # characters
_COLOUR = re.compile(r"\x1b\[\d*m")
_OPENING = re.compile(r"^Exception encountered when calling \S+ ")
_ARGUMENTS = re.compile(r" Arguments received by .*$")


def keras_message(err: BaseException) -> str:
    """Return an exception's text as one line, without terminal colours and the arguments of a Keras call."""
    message = " ".join(_COLOUR.sub("", str(err)).split())
    message = _ARGUMENTS.sub("", _OPENING.sub("", message))
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
