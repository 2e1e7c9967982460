"""Parses JSON documents with the standard library, with TensorFlow Serving's words for errors."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from service.gateway.context.errors import InvalidArgumentError

INVALID_VALUE: Final = "JSON Parse error: Invalid value."
B64: Final = "b64"  # key of an object that stands for bytes

Load = Callable[[bytes], dict[str, Any]]


def load_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        InvalidArgumentError: if it is none.
    """
    if not body:
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as err:
        raise InvalidArgumentError(f"JSON Parse error: {err.msg} at offset: {err.pos}") from err
    except (ValueError, RecursionError) as err:  # not text, a number of thousands of digits, or nested too deeply
        raise InvalidArgumentError(INVALID_VALUE) from err
    return check_object(document)


def check_object(document: Any) -> dict[str, Any]:
    """Return a JSON document that is an object.

    Raises:
        InvalidArgumentError: if it is something else.
    """
    if not isinstance(document, dict):
        raise InvalidArgumentError(f"JSON Value: {echo(document)} Is not object")
    return document


_PIECE: Final = 1 << 19  # characters of base64 that are decoded at a time, other threads in between; 4 divides it
_MAX_ECHO: Final = 64  # characters of a value in an error text


def decode_base64(text: str) -> bytes:
    """Return what base64 stands for (standard alphabet, padded), decoded piece by piece.

    Raises:
        ValueError: if it is not base64.
    """
    if len(text) <= _PIECE:
        return base64.b64decode(text, validate=True)
    if text.find("=", 0, len(text) - 2) >= 0:
        raise ValueError("padding before the end")
    return b"".join(
        base64.b64decode(text[start : start + _PIECE], validate=True) for start in range(0, len(text), _PIECE)
    )


def echo(value: Any) -> str:
    """Return the beginning of a JSON value, for an error text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        value = value[: _MAX_ECHO + 1]
    text = ""
    try:
        for part in _ENCODER.iterencode(value):  # lazily: the value may be the whole body
            text += part
            if len(text) > _MAX_ECHO:
                return text[:_MAX_ECHO] + "..."
    except (RecursionError, ValueError):
        return "..."
    return text


def _show_array(value: Any) -> Any:
    """Return the first of an array's values, as many as are shown, for the encoder."""
    if isinstance(value, np.ndarray):
        return list(value[:_MAX_ECHO]) if value.ndim else value.item()
    return value.item() if isinstance(value, np.generic) else "..."


_ENCODER: Final = json.JSONEncoder(default=_show_array)
