"""OpenAPI parts: the error responses of the routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.gateway.documentation.schemas import ErrorReply

_MEANINGS = {
    400: "Malformed request, or an image that cannot be decoded.",
    401: "No API key, or one that is not known, where one is needed.",
    403: "The API key lacks the right.",
    404: "No such model, version or label.",
    409: "The request conflicts with stored data.",
    413: "Too many bytes, images or pixels.",
    415: "A format that is not read.",
    422: "A parameter out of range.",
    429: "Too many requests; Retry-After says when to try again.",
    502: "The model server broke the model's contract.",
    503: "Not ready or overloaded; Retry-After says when to try again.",
    504: "The model server did not answer in time.",
}
_TEXT_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_TEXT_MEANINGS = {
    401: ("No API key, or one that is not known.", "expected an API key in the header X-API-Key. Received: none"),
    403: ("The key lacks the right.", "expected a key with the right 'predict'. Received: one with feedback"),
    429: ("Too many requests; Retry-After says when to try again.", "too many requests"),
    400: ("The request does not fit the model.", 'Serving signature name: "other" not found in signature def'),
    404: ("No such model or version.", "glaucoma has no version 9. Served: 2, 3"),
    413: (
        "Too many bytes, images or pixels.",
        "request body is 41,943,040 bytes; the limit is 33,554,432 (FOVEA_MAX_BODY_BYTES)",
    ),
    415: (
        "A format or encoding that is not read.",
        "expected JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, HEIC or DICOM. Received: JSON",
    ),
    422: ("A parameter out of range.", "x-request-timeout: expected a number of seconds above 0"),
    502: ("The model server failed.", "the model server failed"),
    503: ("Not ready or overloaded; Retry-After says when to try again.", "the model server cannot be reached"),
    504: ("The model server did not answer in time.", "the model server did not answer in time"),
}


def error_replies(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for these statuses."""
    return {code: {"model": ErrorReply, "description": _MEANINGS[code]} for code in status_codes}


def text_error_replies(
    *status_codes: int, examples: Mapping[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return the same for routes whose errors are `{"error": text}`.

    Args:
        status_codes: of the replies.
        examples: texts to show, where a protocol has words of its own.
    """
    texts = {code: text for code, (_, text) in _TEXT_MEANINGS.items()} | dict(examples or {})
    return {
        code: {
            "description": _TEXT_MEANINGS[code][0],
            "content": {"application/json": {"schema": _TEXT_ERROR, "example": {"error": texts[code]}}},
        }
        for code in status_codes
    }
