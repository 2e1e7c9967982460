"""Words of errors about networks: what Keras raises as one plain line, shapes."""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 300  # characters
_COLOUR = re.compile(r"\x1b\[\d*m")
_OPENING = re.compile(r"^Exception encountered when calling \S+ ")
_ARGUMENTS = re.compile(r" Arguments received by .*$")


def keras_message(err: BaseException) -> str:
    """Return an exception's text as one line, without terminal colours and the arguments of a Keras call."""
    message = " ".join(_COLOUR.sub("", str(err)).split())
    message = _ARGUMENTS.sub("", _OPENING.sub("", message))
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


def spell_shape(shape: Any) -> str:
    """Return a tensor's shape in words, such as "(batch, 28, 28, 3)"."""
    return f"({', '.join('batch' if size is None else str(size) for size in shape)})"
