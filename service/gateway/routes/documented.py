"""What the routes say of their errors in /openapi.json."""

from __future__ import annotations

from typing import Any

from service.gateway.schemas import ErrorReply

_MEANINGS = {
    400: "Malformed request, or an image that cannot be decoded.",
    401: "No API key, or one that is not known, where one is needed.",
    403: "The API key lacks the right.",
    404: "No such model, version or label.",
    409: "What is there already contradicts the request.",
    413: "Too many bytes, images or pixels.",
    415: "A format that is not read.",
    422: "A parameter out of range.",
    429: "Too many requests; Retry-After says when to try again.",
    502: "The model server broke the model's contract.",
    503: "Not ready or overloaded; Retry-After says when to try again.",
    504: "The model server did not answer in time.",
}


def error_replies(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for these statuses."""
    return {code: {"model": ErrorReply, "description": _MEANINGS[code]} for code in status_codes}
