"""Authorises requests by API key, rights and rate limit, before a byte of the body is read.

Every path needs a key unless it is named here, so a route that is added later is closed until it is opened here.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.access.api_keys import ApiKey, KeyRing, Right
from service.gateway.access.rate_limits import RateLimiter, name_address
from service.gateway.context.errors import ForbiddenError, GatewayError, UnauthorizedError
from service.gateway.context.request_context import RequestContext, context_of, name_route
from service.gateway.context.settings import Settings
from service.gateway.http.error_replies import error_reply
from service.gateway.telemetry.logs import HEALTH_PATHS, QUIET_ROUTES

OPEN_PATHS = frozenset({"/", "/docs", "/review", "/openapi.json", "/favicon.ico"}) | HEALTH_PATHS
OPEN_PREFIXES = ("/web/",)  # the page's own files
_HEADER = b"x-api-key"
_BEARER = b"bearer "
_RIGHTS: dict[str, Right] = {"/metrics": "metrics", "/v1/feedback": "feedback", "/v1/review": "review"}
_MAX_KEY_BYTES = 256


class AccessControl:
    """Lets a request through, or answers it with 401, 403 or 429.

    Args:
        app: the next ASGI application.
        keys: the keys; None if none is needed.
        limiter: counts the requests of a key, or of an address that shows no good key; None for no limit.
        routes: to name the route of a refused request in the metrics.
    """

    def __init__(
        self, app: ASGIApp, *, keys: KeyRing | None, limiter: RateLimiter | None, routes: tuple[BaseRoute, ...]
    ) -> None:
        self._app = app
        self._keys = keys
        self._limiter = limiter
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request; anything but HTTP passes through."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except GatewayError as err:
                name_route(scope, self._routes)
                await _refuse(err, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        path: str = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIXES):
            return
        secret = _read_secret(scope)
        context = context_of(scope)
        key = self._keys.find(secret) if self._keys is not None and secret is not None else None
        if key is not None:
            context.key = key.name
        if self._limiter is not None and path not in QUIET_ROUTES:
            self._limiter.check(name_caller(context, scope))
        if self._keys is not None:
            _check_right(path, key, sent=secret is not None)


def name_caller(context: RequestContext, scope: Scope) -> str:
    """Return who sends a request that has been let through: its key, or without keys its address."""
    return f"key {context.key}" if context.key is not None else name_address(_address(scope))


def install_access(app: FastAPI, settings: Settings, *, routes: Iterable[BaseRoute]) -> None:
    """Put access control in front of an app if the settings ask for any.

    Args:
        app: the gateway.
        settings: keys and limits.
        routes: the gateway's.

    Raises:
        KeyFileError: if the file of keys cannot be used.
    """
    if settings.keys_file is None and not settings.rate_limit:
        return
    app.add_middleware(
        AccessControl,
        keys=None if settings.keys_file is None else KeyRing(settings.keys_file),
        limiter=RateLimiter(settings.rate_limit) if settings.rate_limit else None,
        routes=tuple(routes),
    )


def _check_right(path: str, key: ApiKey | None, *, sent: bool) -> None:
    if key is None:
        received = "a key that is unknown or has expired" if sent else "none"
        raise UnauthorizedError(f"expected an API key in the header X-API-Key. Received: {received}")
    right = next(
        (right for start, right in _RIGHTS.items() if path == start or path.startswith(start + "/")), "predict"
    )
    if right not in key.rights:
        raise ForbiddenError(f"expected a key with the right {right!r}. Received: one with {', '.join(key.rights)}")


def _read_secret(scope: Scope) -> str | None:
    """Return what stands in X-API-Key or, as Prometheus and many clients send it, after "Authorization: Bearer"."""
    bearer = None
    for name, value in scope["headers"]:
        if name == _HEADER:
            return _text(value)
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            bearer = _text(value[len(_BEARER) :].strip())
    return bearer


def _text(value: bytes) -> str:
    return value[:_MAX_KEY_BYTES].decode("latin-1")


def _address(scope: Scope) -> str:
    return (scope.get("client") or ("unknown",))[0]


def _refuse(err: GatewayError, scope: Scope) -> ASGIApp:
    reply = error_reply(err, scope)
    if isinstance(err, UnauthorizedError):
        reply.headers["www-authenticate"] = 'Bearer realm="Fovea"'
    return reply
