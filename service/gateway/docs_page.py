"""The API's documentation as one HTML page, written from the OpenAPI document: no JavaScript, no other origin."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8886; margin-top: 2rem; }
h2 code { font-size: 1.1rem; } h2 small { font-weight: normal; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8883; }
pre { background: #8881; padding: .7rem; overflow-x: auto; }
"""
# The page may use its own style sheet and nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)

Document = Mapping[str, Any]


def render_docs(openapi: Document) -> str:
    """Return the page for an OpenAPI 3.1 document."""
    info = openapi["info"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p>For programs: <a href="/openapi.json">/openapi.json</a>.</p>',
        *_render_contents(openapi),
    ]
    for method, path, operation in _operations(openapi):
        parts += _render_operation(openapi, operation, title=f"{method} {path}")
    return "\n".join([*parts, "</body></html>"])


def _operations(openapi: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _render_contents(openapi: Document) -> Iterator[str]:
    yield "<nav><ul>"
    for method, path, operation in _operations(openapi):
        anchor = escape(operation["operationId"])
        yield f'<li><a href="#{anchor}"><code>{method} {escape(path)}</code></a> {escape(operation["summary"])}</li>'
    yield "</ul></nav>"


def _render_operation(openapi: Document, operation: Document, *, title: str) -> Iterator[str]:
    yield f'<section id="{escape(operation["operationId"])}">'
    yield f"<h2><code>{escape(title)}</code> <small>{escape(operation['summary'])}</small></h2>"
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    for sample in operation.get("x-codeSamples", ()):
        yield f"<pre>{escape(sample['source'])}</pre>"
    if operation.get("parameters"):
        yield from _render_parameters(operation["parameters"])
    if "requestBody" in operation:
        yield from _render_body(openapi, operation["requestBody"])
    yield "<h3>Replies</h3><table><tr><th>Status</th><th>Meaning</th></tr>"
    for status, reply in operation["responses"].items():
        shown = f"{escape(reply['description'])}{_codes(reply)}{_example(openapi, reply)}"
        yield f"<tr><td>{escape(status)}</td><td>{shown}</td></tr>"
    yield "</table></section>"


def _render_parameters(parameters: list[Document]) -> Iterator[str]:
    yield "<h3>Parameters</h3><table><tr><th>Name</th><th>In</th><th>Meaning</th></tr>"
    for item in parameters:
        name = f"<code>{escape(item['name'])}</code>{' (required)' if item.get('required') else ''}"
        yield f"<tr><td>{name}</td><td>{escape(item['in'])}</td><td>{escape(item.get('description', ''))}</td></tr>"
    yield "</table>"


def _render_body(openapi: Document, body: Document) -> Iterator[str]:
    yield f"<h3>Body</h3><p>{escape(body.get('description', ''))}</p>"
    for kind, content in body["content"].items():
        examples = [item["value"] for item in content.get("examples", {}).values()]
        for example in examples or [content.get("example") or _resolve(openapi, content["schema"])]:
            yield f"<p><code>{escape(kind)}</code></p>{_pretty(example)}"


def _codes(reply: Document) -> str:
    """Return the codes that an error reply may have."""
    codes = reply.get("content", {}).get("application/json", {}).get("examples", {})
    return " " + ", ".join(f"<code>{escape(code)}</code>" for code in codes) if codes else ""


def _example(openapi: Document, reply: Document) -> str:
    """Return the example of a JSON reply; Fovea's errors all look alike, so only their codes are shown."""
    content = reply.get("content", {}).get("application/json", {})
    example = content.get("example", _resolve(openapi, content.get("schema", {})).get("example"))
    return "" if example is None else _pretty(example)


def _resolve(openapi: Document, schema: Document) -> Document:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Document = openapi["components"]["schemas"][name] if name else schema
    return found


def _pretty(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
