"""Reads the origins of web pages, as browsers write them in the Origin header."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHAPE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def clean_origin(text: str) -> str:
    """Return an origin in lower case and without its scheme's default port; "*" stands for every origin.

    Raises:
        ValueError: for anything but a scheme, a host and a port.
    """
    if text == "*":
        return text
    if not _SHAPE.fullmatch(text):
        raise ValueError(f"expected origins such as https://app.example.org, without a path, or *, not {text!r}")
    parts = urlsplit(text.lower())
    host = parts.netloc.removesuffix(f":{parts.port}")
    return f"{parts.scheme}://{host}" if parts.port == _DEFAULT_PORTS.get(parts.scheme) else text.lower()
