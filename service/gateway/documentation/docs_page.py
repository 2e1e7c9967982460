"""The API's documentation as one HTML page, written from the OpenAPI document: no JavaScript, no other origin."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root {
  color-scheme: light dark; --ground: #f3f5f6; --surface: #fff; --ink: #14202a; --soft: #55636e; --line: #d3dade;
  --accent: #0c5460; --sunken: #e9edef;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0e1418; --surface: #172026; --ink: #e4eaed; --soft: #9fb0ba; --line: #2c3942;
    --accent: #7fcbd6; --sunken: #212c33;
  }
}
* { box-sizing: border-box; }
body {
  max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word;
}
a { color: var(--accent); text-underline-offset: .15em; }
h1 { margin: 0 0 .5rem; font-size: 1.75rem; line-height: 1.2; letter-spacing: -.015em; }
h1 small, h2 small { color: var(--soft); font-weight: 400; }
h2 { margin: 0 0 .75rem; font-size: 1.0625rem; line-height: 1.4; } h2 small { font-size: 1rem; margin-left: .5rem; }
h3 { margin: 1.5rem 0 .25rem; font-size: .9375rem; }
p { margin: .5rem 0; }
section, nav {
  margin-top: 1.25rem; padding: 1.25rem; background: var(--surface);
  border: 1px solid var(--line); border-radius: .875rem;
}
nav ul { list-style: none; margin: 0; padding: 0; }
nav li { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: .3rem 0; }
nav a { flex: 0 1 32rem; min-width: 0; } nav span { color: var(--soft); }
code, pre { font: .875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
h2 code { font-size: 1rem; font-weight: 650; }
p code, td code { padding: .1em .3em; background: var(--sunken); border-radius: .25rem; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; }
th { color: var(--soft); font-weight: 500; font-size: .875rem; }
td, th { padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
.replies th:first-child { width: 4.5rem; }
.parameters th:first-child { width: 32%; } .parameters th:nth-child(2) { width: 5rem; }
pre { margin: .5rem 0; padding: .75rem; overflow-x: auto; background: var(--sunken); border-radius: .5rem; }
"""
# The page may use its own style sheet and nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)

Document = Mapping[str, Any]


def render_docs(openapi: Document, *, root: str = "./") -> str:
    """Return the page for an OpenAPI 3.1 document.

    Args:
        openapi: the document.
        root: precedes links to the gateway's paths.
    """
    here = escape(root)
    info = openapi["info"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
        f"<p>{_text(info.get('description', ''))}</p>",
        f'<p>For programs: <a href="{here}openapi.json">/openapi.json</a>. '
        f'For people: <a href="{here}">the page</a>.</p>',
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
        link = f'<a href="#{anchor}"><code>{method} {escape(path)}</code></a>'
        yield f"<li>{link} <span>{escape(operation['summary'])}</span></li>"
    yield "</ul></nav>"


def _render_operation(openapi: Document, operation: Document, *, title: str) -> Iterator[str]:
    yield f'<section id="{escape(operation["operationId"])}">'
    yield f"<h2><code>{escape(title)}</code> <small>{escape(operation['summary'])}</small></h2>"
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    for sample in operation.get("x-codeSamples", ()):
        yield f"<pre>{escape(sample['source'])}</pre>"
    if operation.get("parameters"):
        yield from _render_parameters(operation["parameters"])
    if "requestBody" in operation:
        yield from _render_body(openapi, operation["requestBody"])
    yield "<h3>Replies</h3><table class='replies'><tr><th>Status</th><th>Meaning</th></tr>"
    for status, reply in operation["responses"].items():
        shown = f"{_text(reply['description'])}{_codes(reply)}{_example(openapi, reply)}"
        yield f"<tr><td>{escape(status)}</td><td>{shown}</td></tr>"
    yield "</table></section>"


def _render_parameters(parameters: list[Document]) -> Iterator[str]:
    yield "<h3>Parameters</h3><table class='parameters'><tr><th>Name</th><th>In</th><th>Meaning</th></tr>"
    for item in parameters:
        name = f"<code>{escape(item['name'])}</code>{' (required)' if item.get('required') else ''}"
        yield f"<tr><td>{name}</td><td>{escape(item['in'])}</td><td>{_text(item.get('description', ''))}</td></tr>"
    yield "</table>"


def _render_body(openapi: Document, body: Document) -> Iterator[str]:
    yield f"<h3>Body</h3><p>{_text(body.get('description', ''))}</p>"
    for kind, content in body["content"].items():
        examples = [item["value"] for item in content.get("examples", {}).values()]
        for example in examples or [content.get("example") or _resolve(openapi, content["schema"])]:
            yield f"<p><code>{escape(kind)}</code></p>{_pretty(example)}"


def _text(text: str) -> str:
    """Return prose, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


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
