"""OpenAPI parts: the request body of every route that reads images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from service.gateway.images.uploads import FIELD, JsonImages

# The smallest of pictures, whole: an example that can be sent as it is.
EXAMPLE_B64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mPYEqUBAAL8ATdHJTIjAAAAAElFTkSuQmCC"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def image_body(samples: Sequence[str]) -> dict[str, Any]:
    """Return FastAPI's `openapi_extra` for a route that takes images.

    Args:
        samples: shell commands that show the route in use.
    """
    form = {
        "type": "object",
        "required": [FIELD],
        "additionalProperties": False,
        "properties": {FIELD: {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
    }
    content = {
        "image/*": _BINARY,
        "multipart/form-data": {"schema": form},
        "application/json": {
            "schema": inline_schema(JsonImages),
            "example": {"images": [{"b64": EXAMPLE_B64, "name": "eye.png"}]},
        },
    }
    return {
        "x-codeSamples": [{"lang": "Shell", "source": sample} for sample in samples],
        "requestBody": {
            "required": True,
            "description": "One image as it is, several as files of a form, or JSON with base64.",
            "content": content,
        },
    }


def image_form(fields: type[BaseModel], description: str, *, sample: str) -> dict[str, Any]:
    """Return FastAPI's `openapi_extra` for a route that takes a form with one image and texts.

    Args:
        fields: the texts.
        description: of the form.
        sample: a shell command that shows the route in use.
    """
    schema = fields.model_json_schema()
    schema["properties"] = {FIELD: _BINARY["schema"], **schema["properties"]}
    schema["required"] = [FIELD, *schema["required"]]
    return {
        "x-codeSamples": [{"lang": "Shell", "source": sample}],
        "requestBody": {
            "required": True,
            "description": description,
            "content": {"multipart/form-data": {"schema": schema}},
        },
    }


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a JSON body; Pydantic nests the definitions of items, OpenAPI wants them in place."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def put_in_place(node: Any) -> Any:
        if isinstance(node, list):
            return [put_in_place(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return put_in_place(definitions[node["$ref"].rpartition("/")[2]])
        return {key: put_in_place(value) for key, value in node.items()}

    found: dict[str, Any] = put_in_place(schema)
    return found
