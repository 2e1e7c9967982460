"""Schemas of TensorFlow Serving's routes for /openapi.json."""

from __future__ import annotations

from typing import Any

from service.gateway.documentation.error_responses import text_error_replies
from service.gateway.routes.request_schemas import EXAMPLE_B64

_ANY: dict[str, Any] = {}
_WORDS = {400: "Missing 'inputs' or 'instances' key", 404: "Servable not found for request: Specific(glaucoma, 9)"}
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
        **text_error_replies(400, 404, 413, 415, 422, 502, 503, 504, examples=_WORDS),
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
        **text_error_replies(400, 404, 502, 503, 504, examples=_WORDS),
    },
}
