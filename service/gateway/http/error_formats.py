"""Chooses the JSON of an error by the path of the request: Fovea's object, or the text of the two tensor protocols.

Everything below `/v2` (the Open Inference Protocol) and every verb of TensorFlow Serving's REST API answers
`{"error": "text"}`, whichever part of the gateway refuses the request.
"""

from __future__ import annotations

import json
import re
from typing import Final

from service.gateway.context.errors import GatewayError, LabelNotFoundError, ModelNotFoundError, VersionNotFoundError

_MAX_NAME: Final = 64
_MAX_VERSION: Final = 32
_OPEN_INFERENCE: Final = "/v2"
_MODELS: Final = "/v1/models/"
_TENSORFLOW: Final = re.compile(
    r"/v1/models/(?P<model>[^/]*?)(/versions/(?P<version>[^/]*?)|/labels/(?P<label>[^/]*?))?(:[^/:]*|/metadata)",
    re.DOTALL,
)


def format_error(path: str, err: GatewayError, *, request_id: str) -> tuple[int, str]:
    """Returns the status and the JSON of an error.

    Args:
        path: of the request, decoded, without the prefix of a proxy.
        err: the reason.
        request_id: of the request.
    """
    tensorflow = _TENSORFLOW.fullmatch(path.rstrip("/"))
    if tensorflow:
        status_code, message = _in_tensorflows_words(err, tensorflow)
        return status_code, json.dumps({"error": message})
    return err.status_code, format_message(path, err.code, str(err), request_id=request_id)


def format_message(path: str, code: str, message: str, *, request_id: str) -> str:
    """Returns the JSON of an error that is no GatewayError.

    Args:
        path: of the request, decoded, without the prefix of a proxy; empty if it is not known.
        code: stable name of the reason; the text form has none.
        message: for people.
        request_id: of the request.
    """
    if has_text_errors(path):
        return json.dumps({"error": message})
    return json.dumps({"error": {"code": code, "message": message, "request_id": request_id}})


def has_text_errors(path: str) -> bool:
    """Return True if errors of this path are texts."""
    if path == _OPEN_INFERENCE or path.startswith(_OPEN_INFERENCE + "/"):
        return True
    path = path.rstrip("/")
    has_verb = path.startswith(_MODELS) and ":" in path.rpartition("/")[2]
    return has_verb or _TENSORFLOW.fullmatch(path) is not None


def _in_tensorflows_words(err: GatewayError, path: re.Match[str]) -> tuple[int, str]:
    """Returns status and text as TensorFlow Serving has them, where it has words of its own."""
    model, version, label = (ascii(path[name] or "")[1:-1][:_MAX_NAME] for name in ("model", "version", "label"))
    if isinstance(err, ModelNotFoundError | VersionNotFoundError):
        wanted = f"Specific({model}, {version[:_MAX_VERSION]})" if path["version"] else f"Latest({model})"
        return 404, f"Servable not found for request: {wanted}"
    if isinstance(err, LabelNotFoundError):
        return 400, f"Unrecognized servable version label: {label}"
    return err.status_code, str(err)
