"""Parses JSON documents with the standard library, with TensorFlow Serving's words for errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from service.gateway.errors import InvalidArgumentError
from service.gateway.tensor_json import echo

INVALID_VALUE: Final = "JSON Parse error: Invalid value."

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
