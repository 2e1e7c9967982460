"""What /openapi.json says of TensorFlow Serving's routes."""

from __future__ import annotations

from typing import Any

from service.gateway.bodies import EXAMPLE_B64

_ANY: dict[str, Any] = {}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "description": "A text; an object, as on other routes, where keys, limits or deadlines refuse a request.",
            "anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/ErrorDetail"}],
        }
    },
    "example": {"error": 'Serving signature name: "other" not found in signature def'},
}
_MEANINGS = {
    400: ("The body does not fit the signature, or the label is unknown.", "Missing 'inputs' or 'instances' key"),
    404: ("No such model or version.", "Servable not found for request: Specific(glaucoma, 9)"),
    413: ("Too many bytes, images or pixels.", "expected a body of at most 33554432 bytes. Received: more"),
    415: ("A format or encoding that is not read.", "expected JPEG, PNG, WEBP, BMP, TIFF or GIF. Received: JSON"),
    422: ("A parameter out of range.", "x-request-timeout: expected a number of seconds above 0"),
    502: ("The model server failed.", "the model server failed"),
    503: ("Not ready or overloaded; Retry-After says when to try again.", "the model server cannot be reached"),
    504: ("The model server did not answer in time.", "the model server did not answer in time"),
}


def _errors(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    return {
        code: {
            "description": _MEANINGS[code][0],
            "content": {"application/json": {"schema": _ERROR_SCHEMA, "example": {"error": _MEANINGS[code][1]}}},
        }
        for code in status_codes
    }


_ROWS = {"signature_name": "serving_default", "instances": [{"b64": EXAMPLE_B64}]}
_COLUMNS = {"inputs": {"images": [[[[0, 0, 0], [255, 255, 255]]]]}}
_BODY_SCHEMA = {
    "type": "object",
    "description": "Either instances (row format) or inputs (column format).",
    "properties": {
        "signature_name": {"type": "string"},
        "instances": {"type": "array", "items": _ANY, "minItems": 1},
        "inputs": _ANY,
    },
    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
}
_REPLY_SCHEMA = {
    "type": "object",
    "properties": {"predictions": {"type": "array", "items": _ANY}, "outputs": _ANY},
}
_SAMPLE = (
    'curl -d \'{"instances": [{"b64": "\'$(base64 -w0 eye.jpg)\'"}]}\' http://127.0.0.1:8000/v1/models/glaucoma:predict'
)

PREDICT: dict[str, Any] = {
    "responses": {
        200: {
            "description": "`predictions` for row format, `outputs` for column format.",
            "content": {
                "application/json": {"schema": _REPLY_SCHEMA, "example": {"predictions": [[0.9312847, 0.0687153]]}}
            },
        },
        **_errors(400, 404, 413, 415, 422, 502, 503, 504),
    },
    "openapi_extra": {
        "x-codeSamples": [{"lang": "Shell", "source": _SAMPLE}],
        "requestBody": {
            "required": True,
            "description": "JSON, whatever the content type says.",
            "content": {
                "application/json": {
                    "schema": _BODY_SCHEMA,
                    "examples": {"rows": {"value": _ROWS}, "columns": {"value": _COLUMNS}},
                }
            },
        },
    },
}
METADATA: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The version and its signatures.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["model_spec", "metadata"],
                        "properties": {"model_spec": {"type": "object"}, "metadata": {"type": "object"}},
                    },
                    "example": {
                        "model_spec": {"name": "glaucoma", "signature_name": "", "version": "3"},
                        "metadata": {"signature_def": {"signature_def": {"serving_default": {}}}},
                    },
                }
            },
        },
        **_errors(400, 404, 502, 503, 504),
    },
}
