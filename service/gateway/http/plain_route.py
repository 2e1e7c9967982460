"""Routes that Starlette dispatches, without FastAPI's dependency injection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope


def plain_route(
    path: str, endpoint: Callable[[Request, Any, Any], Awaitable[Response]], *, query: type[BaseModel], components: Any
) -> Route:
    """Return a POST route for an endpoint that FastAPI documents.

    Args:
        path: without parameters.
        endpoint: takes the request, its query and the components, as FastAPI calls it.
        query: the query's model; it is frozen, and all its fields have defaults.
        components: of the app.
    """
    without_query = query()

    async def answer(request: Request) -> Response:
        asked = _read_query(request, query) if request.scope["query_string"] else without_query
        return await endpoint(request, asked, components)

    return _NamedRoute(path, answer, methods=["POST"], include_in_schema=False)


class _NamedRoute(Route):
    """A route that is in the scope, as FastAPI's own are, for metrics and the log."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self} if match is not Match.NONE else child_scope


def _read_query(request: Request, model: type[BaseModel]) -> BaseModel:
    """Validate a query.

    Raises:
        RequestValidationError: as FastAPI raises it.
    """
    values = dict(request.query_params)
    try:
        return model.model_validate(values)
    except ValidationError as err:
        errors = [{**error, "loc": ("query", *error["loc"])} for error in err.errors(include_url=False)]
        raise RequestValidationError(errors) from err
