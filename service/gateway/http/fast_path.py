"""Dispatches requests for an exact path straight to their endpoint, without FastAPI's routing.

FastAPI finds a route by trying them in turn, each included router three times over, solves its dependencies, and keeps
three exit stacks for them: more than half a millisecond a request. Here an exact path goes straight to the function
that FastAPI documents. Whatever is not plain, a wrong parameter for one, goes the long way and gets FastAPI's answer.
This sits inside access control and everything else that surrounds a request: nothing is skipped but the search.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.context.errors import GatewayError
from service.gateway.http.replies import error_reply

_MAX_PARAMETERS = 16  # more go the long way, which knows what to say of them


@dataclass(frozen=True, slots=True)
class FastRoute:
    """One route.

    Attributes:
        path: exactly this path; also the route's name in metrics.
        endpoint: called with the request, the query and the app's components, as FastAPI would.
        query: the query's model, all of whose fields are optional.
    """

    path: str
    endpoint: Callable[[Request, Any, Any], Awaitable[Response]]
    query: type[BaseModel]


class FastPath:
    """Answers POST requests for the fast routes and passes on everything else.

    Args:
        app: the next ASGI application.
        routes: the fast routes.
        components: of the gateway, for the endpoints.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[FastRoute], components: Any) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}
        self._components = components
        self._no_query = {path: route.query() for path, route in self._routes.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        query = self._read_query(route, scope["query_string"]) if route is not None else None
        if route is None or query is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            reply = await route.endpoint(Request(scope, receive), query, self._components)
        except GatewayError as err:
            reply = error_reply(err, scope)
        await reply(scope, receive, send)

    def _read_query(self, route: FastRoute, text: bytes) -> BaseModel | None:
        """Return the query, None if it is for FastAPI to refuse."""
        if not text:
            return self._no_query[route.path]
        try:
            pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
            values = dict(pairs)
            return route.query.model_validate(values) if len(values) == len(pairs) else None
        except (ValueError, ValidationError):
            return None
