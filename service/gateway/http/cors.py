"""Lets the pages of other origins call the gateway, if the settings name any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.context.errors import ForbiddenError
from service.gateway.context.request_context import name_route
from service.gateway.context.settings import Settings
from service.gateway.http.error_replies import error_reply

RawHeaders = Iterable[tuple[bytes, bytes]]

_METHODS = ("GET", "HEAD", "POST", "DELETE")
_EXPOSED = (
    "X-Request-ID",
    "Retry-After",
    "WWW-Authenticate",
    "Allow",
    "ETag",
    "X-Model-Name",
    "X-Model-Version",
    "X-Model-Precision",
    "X-Class-Index",
    "X-Embedding-Shape",
    "Inference-Header-Content-Length",
)
_PREFLIGHT_S = 600  # how long a browser may remember an answer


class CrossOrigin(CORSMiddleware):
    """Adds CORS headers to every reply, errors included; answers no preflight itself.

    Preflights are answered further in, by `Preflights`, so that they are counted and logged like every request.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=("*",),  # no reply depends on a cookie: a key has to be known to be sent
            allow_private_network="*" not in origins,
            expose_headers=_EXPOSED,
            max_age=_PREFLIGHT_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request."""
        if scope["type"] != "http" or is_preflight(scope):
            await self.app(scope, receive, send)
        else:
            await self.simple_response(scope, receive, send, request_headers=Headers(scope=scope))

    def headers_for(self, request_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the CORS headers of a reply that the connection gives without the app."""
        origin = next((value.decode("latin-1") for name, value in request_headers if name == b"origin"), None)
        if origin is None:
            return []
        headers = MutableHeaders(self.simple_headers)
        if not self.allow_all_origins and self.is_allowed_origin(origin):
            self.allow_explicit_origin(headers, origin)
        return headers.raw

    def answer_preflight(self, scope: Scope) -> Response:
        """Return the reply to a preflight; a refusal names the allowed values."""
        request_headers = Headers(scope=scope)
        reply = self.preflight_response(request_headers)
        if reply.status_code == 200:
            return reply
        origin = request_headers["origin"]
        if not self.is_allowed_origin(origin):
            err = ForbiddenError(f"CORS: origin {origin[:200]!r} is not one of FOVEA_CORS_ORIGINS")
        else:
            method = request_headers["access-control-request-method"]
            err = ForbiddenError(f"CORS: expected one of the methods {', '.join(_METHODS)}. Received: {method[:16]!r}")
        refusal = error_reply(err, scope)
        for name, value in reply.headers.items():
            if name.startswith("access-control-") or name == "vary":
                refusal.headers[name] = value
        return refusal


class Preflights:
    """Answers preflights, before a key is asked for: browsers send none with them.

    Args:
        app: the next ASGI application.
        origins: the origins that may call.
        routes: to name the route in the metrics.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._cors = CrossOrigin(app, origins=origins)
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] == "http" and is_preflight(scope):
            name_route(scope, self._routes)
            await self._cors.answer_preflight(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def is_preflight(scope: Scope) -> bool:
    """Return whether a request is a CORS preflight."""
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


def install_preflights(app: FastAPI, settings: Settings, *, routes: Iterable[BaseRoute]) -> None:
    """Put the answers to preflights in front of an app, if other origins may call it."""
    if settings.cors_origins:
        app.add_middleware(Preflights, origins=settings.cors_origins, routes=tuple(routes))


def install_cors(app: FastAPI, settings: Settings) -> None:
    """Put the CORS headers of all replies in front of an app, if other origins may call it."""
    if settings.cors_origins:
        app.add_middleware(CrossOrigin, origins=settings.cors_origins)


def connection_headers(origins: Sequence[str]) -> Callable[[RawHeaders], RawHeaders]:
    """Return a function from a request's headers to the CORS headers of a reply that the connection gives itself."""
    if not origins:
        return lambda _: ()
    return CrossOrigin(_no_app, origins=origins).headers_for


async def _no_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the app where only headers are asked for."""
