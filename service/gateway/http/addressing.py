"""Finds the route's path in the path that was asked for: without a proxy's prefix, and without a closing slash.

Nothing is redirected. A redirect would have to name the scheme and host that the client used, which a server behind a
proxy does not know, and clients send their key along.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.gateway.context.prefixes import ASKED_PATH, PREFIX, clean_prefix
from service.gateway.context.settings import Settings

_HEADER = b"x-forwarded-prefix"


class Addressing:
    """Rewrites the path of requests; has to see the proxy's own address.

    Args:
        app: what answers.
        root_path: the prefix of every request that does not name one.
        trusted_proxies: addresses or networks whose X-Forwarded-Prefix counts.
        routes: the gateway's; a prefix that starts like one of them is not looked for in the path.
    """

    def __init__(
        self, app: ASGIApp, *, root_path: str, trusted_proxies: Sequence[str], routes: Iterable[BaseRoute]
    ) -> None:
        self._app = app
        self._root_path = root_path
        self._networks = [ipaddress.ip_network(proxy) for proxy in trusted_proxies]
        self._own = {_first_part(getattr(route, "path", "")) for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request."""
        if scope["type"] == "http":
            prefix = self._find_prefix(scope) if self._networks else self._root_path
            path: str = scope["path"]
            if prefix or (path.endswith("/") and len(path) > 1):
                self._rewrite(scope, path, prefix)
        await self._app(scope, receive, send)

    def _rewrite(self, scope: Scope, path: str, prefix: str) -> None:
        scope[ASKED_PATH] = path
        if prefix:
            scope[PREFIX] = prefix
            if (path + "/").startswith(prefix + "/") and _first_part(prefix) not in self._own:
                path = path[len(prefix) :]
        if path != "/":
            path = path.removesuffix("/")
        scope["path"] = path or "/"

    def _find_prefix(self, scope: Scope) -> str:
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER]
        if not named or not self._is_trusted(scope):
            return self._root_path
        # Each proxy of a chain adds its own: "/outer, /inner".
        parts = [clean_prefix(part.strip()) for value in named for part in value.split(",")]
        return self._root_path if None in parts else "".join(part for part in parts if part)

    def _is_trusted(self, scope: Scope) -> bool:
        try:
            address = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def install_addressing(app: FastAPI, settings: Settings, *, routes: Iterable[BaseRoute]) -> None:
    """Put the reading of paths and of trusted proxies' headers in front of an app.

    Args:
        app: the gateway.
        settings: prefix and proxies.
        routes: the gateway's.
    """
    proxies = settings.trusted_proxies
    if proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(proxies))
    app.add_middleware(Addressing, root_path=settings.root_path or "", trusted_proxies=proxies, routes=list(routes))


def _first_part(path: str) -> str:
    return path.split("/")[1] if "/" in path else ""
