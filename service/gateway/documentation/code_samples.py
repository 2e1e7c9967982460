"""Samples of each operation for curl, Python and JavaScript."""

from __future__ import annotations

import json
import re
from typing import Any

_ADDRESS = "http://127.0.0.1:8000"
_FIELDS = {"consent": "true", "label": "glaucoma"}  # required texts of forms


def build_samples(method: str, path: str, operation: dict[str, Any]) -> list[dict[str, str]]:
    """Return the samples of an operation: its own shell commands first, then the same in Python and JavaScript.

    Args:
        method: of HTTP, in capitals.
        path: with parameters in braces.
        operation: of the OpenAPI document; its `x-codeSamples` are shell commands.
    """
    own = [sample for sample in operation.get("x-codeSamples", []) if sample["lang"] == "Shell"]
    call = _Call(method, _ADDRESS + _fill_parameters(path, operation), operation.get("requestBody"))
    shell = own or [{"lang": "Shell", "source": call.shell()}]
    return [
        *shell,
        {"lang": "Python", "source": call.python()},
        {"lang": "JavaScript", "source": call.javascript()},
    ]


def _fill_parameters(path: str, operation: dict[str, Any]) -> str:
    """Put each path parameter's example in its place."""
    examples = {
        parameter["name"]: str((parameter.get("schema", {}).get("examples") or ["ID"])[0])
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "path"
    }
    return re.sub(r"{(\w+)}", lambda found: examples.get(found[1], "ID"), path)


class _Call:
    """One request, written in three languages."""

    def __init__(self, method: str, url: str, body: dict[str, Any] | None) -> None:
        self._method = method
        self._url = url
        content = (body or {}).get("content", {})
        self._takes_image = "image/*" in content
        form = content.get("multipart/form-data", {}).get("schema", {})
        self._texts = {name: _FIELDS[name] for name in form.get("required", []) if name in _FIELDS}
        self._is_form = bool(form) and not self._takes_image
        self._json = _json_example(content.get("application/json", {}))

    def shell(self) -> str:
        """Return a curl command."""
        method = "" if self._method == "GET" else f"-X {self._method} "
        if self._json is None:
            return f"curl {method}{self._url}"
        return f"curl {method}-H 'content-type: application/json' -d '{self._json}' {self._url}"

    def python(self) -> str:
        """Return a script that uses requests."""
        call, lines = f"requests.{self._method.lower()}", ["import requests", ""]
        if self._takes_image:
            lines += ['with open("eye.jpg", "rb") as image:', f'    reply = {call}("{self._url}", data=image)']
        elif self._is_form:
            sent = f'files={{"file": image}}, data={json.dumps(self._texts)}'
            lines += ['with open("eye.jpg", "rb") as image:', f'    reply = {call}("{self._url}", {sent})']
        elif self._json is not None:
            lines += [f"body = {self._json!r}", 'headers = {"content-type": "application/json"}']
            lines += [f'reply = {call}("{self._url}", data=body, headers=headers)']
        else:
            lines += [f'reply = {call}("{self._url}")']
        return "\n".join([*lines, "reply.raise_for_status()", "print(reply.text)"])

    def javascript(self) -> str:
        """Return a script that uses fetch; an image is that of a file input."""
        lines, options = [], [] if self._method == "GET" else [f'method: "{self._method}"']
        if self._takes_image or self._is_form:
            lines += ['const image = document.querySelector("input[type=file]").files[0];']
        if self._is_form:
            lines += ["const body = new FormData();", 'body.append("file", image);']
            lines += [f"body.append({json.dumps(name)}, {json.dumps(text)});" for name, text in self._texts.items()]
            options += ["body"]
        elif self._takes_image:
            options += ["body: image"]
        elif self._json is not None:
            lines += [f"const body = {json.dumps(self._json)};"]
            options += ['headers: { "content-type": "application/json" }', "body"]
        arguments = f'"{self._url}", {{ {", ".join(options)} }}' if options else f'"{self._url}"'
        return "\n".join([*lines, f"const reply = await fetch({arguments});", "console.log(await reply.text());"])


def _json_example(content: dict[str, Any]) -> str | None:
    """Return an example of a JSON body as one line; None without one."""
    examples = [content["example"]] if "example" in content else []
    examples += [entry["value"] for entry in content.get("examples", {}).values()]
    return json.dumps(examples[0]) if examples else None
