"""Path prefixes under which proxies serve the gateway, and the links that keep them."""

from __future__ import annotations

import re

from starlette.types import Scope

PREFIX = "fovea.prefix"  # in the ASGI scope: the prefix, absent without one
ASKED_PATH = "fovea.asked_path"  # in the ASGI scope: the path as it was asked for, where it is not the route's

_SHAPE = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


def clean_prefix(text: str) -> str | None:
    """Return a prefix without its closing slash, None if it is none: "//host", "/a/../b" and the like are not."""
    prefix = text.removesuffix("/")
    is_safe = _SHAPE.fullmatch(prefix) and not {".", ".."} & set(prefix.split("/"))
    return prefix if is_safe else None


def link_root(scope: Scope) -> str:
    """Return the prefix of a page's links to the gateway's own paths, such as "/fovea/"; relative without a prefix."""
    prefix = scope.get(PREFIX)
    if prefix:
        return f"{prefix}/"
    depth = scope.get(ASKED_PATH, scope["path"]).count("/") - 1
    return "../" * depth or "./"
