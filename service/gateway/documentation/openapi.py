"""The OpenAPI document: what FastAPI derives from the routes, and what surrounds every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.gateway.context.deadlines import MAX_TIMEOUT_S
from service.gateway.documentation.code_samples import build_samples
from service.gateway.documentation.error_responses import text_error_replies
from service.gateway.documentation.groups import GROUPS
from service.gateway.http.authorization import OPEN_PATHS
from service.gateway.http.error_formats import has_text_errors

_VALIDATION_SCHEMAS = ("HTTPValidationError", "ValidationError")  # FastAPI's own, which the gateway never sends
_KEY_SCHEME = "ApiKey"
_SECURITY_SCHEMES = {
    _KEY_SCHEME: {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "Needed where the gateway was started with keys.",
    }
}
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "Comes back in the reply and stands in the log. Made if it is missing, has more than 128 characters "
    "or others than letters, digits and ._:/+=@-",
    "schema": {"type": "string"},
    "example": "4bf92f3577b34da6a3ce929d0e0e4736",
}
_TIMEOUT = {
    "name": "X-Request-Timeout",
    "in": "header",
    "required": False,
    "description": "Seconds that the client will wait; the work is given up then.",
    "schema": {"type": "number", "minimum": 0.001, "maximum": MAX_TIMEOUT_S},
    "example": 5,
}
_REPLY_HEADERS = {"X-Request-ID": {"description": "The request's id.", "schema": {"type": "string"}, "required": True}}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}, "required": True}
}
# For each status, the codes that a reply may have, with an example message; the first one is shown first.
_CODES = {
    400: {
        "malformed_request": "images[0].b64: expected base64 (standard alphabet, padded)",
        "undecodable_image": "the JPEG image cannot be decoded: it is truncated",
        "empty_image": "the image is empty: expected the bytes of an image file. Received: 0 bytes",
    },
    401: {"unauthorized": "expected an API key in X-API-Key. Received: none"},
    403: {"forbidden": "the API key lacks the right: feedback"},
    404: {
        "model_not_found": "no model 'eyes' is served; GET /v1/models lists those that are",
        "version_not_found": "glaucoma has no version 9. Served: 2, 3",
        "label_not_found": "glaucoma has no version labelled 'candidate'. Labels: live, previous",
        "no_live_version": "glaucoma has no live version; version 1 is a candidate, which `version=1` asks. Make it "
        "live with `fovea promote glaucoma 1`",
        "feedback_not_found": "no feedback is kept under that id",
        "not_found": "no such route; GET /docs lists those that exist",
    },
    409: {"conflict": "this image is kept with another label already"},
    413: {
        "body_too_large": "request body is 41,943,040 bytes; the limit is 33,554,432 (FOVEA_MAX_BODY_BYTES)",
        "image_too_large": "expected at most 80000000 pixels. Received: 30000 x 30000 = 900000000",
        "too_many_images": "the request has more than 64 images, the limit (FOVEA_MAX_IMAGES); send several requests",
        "too_much_decoding": "decoding the 16 images takes more than 0.5 s, the limit of one request "
        "(FOVEA_DECODE_BUDGET_S); send fewer images in one request, or smaller ones",
        "too_much_json": "the JSON body holds about 15,000,002 values; the limit is 5,000,000 (FOVEA_MAX_JSON_VALUES); "
        'send images as base64 ({"b64": "..."}) or numbers as binary data under /v2: either takes a hundredth of the '
        "time",
    },
    415: {
        "unsupported_image": "expected JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, HEIC or DICOM. Received: a PDF document",
        "unsupported_encoding": "content-encoding: expected gzip, deflate or none. Received: 'br'",
    },
    422: {
        "invalid_value": "top: expected 1 to 3, the model's number of classes. Received: 9",
        "no_explanation": "pets version 1 has no explanations",
        "no_embedding": "pets version 1 has no embeddings",
    },
    429: {"rate_limited": "too many requests"},
    502: {"model_server_broke_contract": "the model server's answer is not what the contract says"},
    503: {
        "model_not_ready": "version 3 of glaucoma is not loaded on the model server yet",
        "no_model": "no model to serve yet",
        "model_server_unreachable": "the model server cannot be reached",
        "overloaded": "the model server has too much to do",
        "draining": "the gateway is stopping",
        "storage_failed": "the feedback cannot be written",
    },
    504: {"deadline_exceeded": "the model server did not answer in time"},
}
_FOR_ALL = {
    "401": "No API key, or one that is not known.",
    "403": "The key lacks the right.",
    "429": "Too many requests.",
}


def install_openapi(app: FastAPI) -> None:
    """Make `app.openapi()` return the whole document; it is built once, at the first request."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for name in _VALIDATION_SCHEMAS:
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    document["tags"] = GROUPS
    for path, method, operation in _operations(document):
        _complete_operation(path, operation)
        operation["x-codeSamples"] = build_samples(method, path, operation)
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _complete_operation(path: str, operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append(_REQUEST_ID)
    if "requestBody" in operation and "504" in operation["responses"]:
        operation["parameters"].append(_TIMEOUT)
    replies = operation["responses"]
    if "422" in replies and _is_fastapis_own(replies["422"]):
        del replies["422"]  # nothing to get wrong, or a route that says it in its own words
    if path not in OPEN_PATHS:
        operation["security"] = [{}, {_KEY_SCHEME: []}]
        texts = text_error_replies(401, 403, 429) if has_text_errors(path) else {}
        for status, description in _FOR_ALL.items():
            own = {"description": description, "content": _error_content()}
            replies.setdefault(status, texts.get(int(status), own))
    for status, reply in replies.items():
        reply["headers"] = {**reply.get("headers", {}), **_REPLY_HEADERS}
        if status in ("429", "503"):
            reply["headers"] |= _RETRY_AFTER
        _add_examples(int(status), reply)
    operation["responses"] = dict(sorted(replies.items()))


def _is_fastapis_own(reply: dict[str, Any]) -> bool:
    reference: str = reply.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return reference.endswith(_VALIDATION_SCHEMAS)


def _error_content() -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}}


def _add_examples(status: int, reply: dict[str, Any]) -> None:
    """Give an error reply of Fovea's own an example for every code that it may have."""
    content = reply.get("content", {}).get("application/json", {})
    if not content.get("schema", {}).get("$ref", "").endswith("/ErrorReply"):
        return
    request_id = _REQUEST_ID["example"]
    content["examples"] = {
        code: {"value": {"error": {"code": code, "message": message, "request_id": request_id}}}
        for code, message in _CODES[status].items()
    }
