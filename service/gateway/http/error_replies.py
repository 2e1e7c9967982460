"""Turns errors into replies: the gateway's own, and those of the framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from service.gateway.context.errors import GatewayError, InvalidValueError
from service.gateway.context.request_context import context_of
from service.gateway.http.error_formats import format_error, format_message
from service.gateway.http.json_response import JsonResponse

_CODES = {400: "malformed_request", 404: "not_found", 405: "method_not_allowed"}


def error_reply(err: GatewayError, scope: Scope) -> Response:
    """Return the reply for one of our errors, in the form that the request's path has for errors."""
    status_code, body = format_error(scope["path"], err, request_id=context_of(scope).id)
    return JsonResponse(body, status_code, retry_headers(err))


def retry_headers(err: GatewayError) -> dict[str, str]:
    """Return the header that says when to try again, if that helps."""
    return {} if err.retry_after_s is None else {"retry-after": str(err.retry_after_s)}


def install_error_handlers(app: FastAPI, *, routes: Sequence[BaseRoute]) -> None:
    """Answer our errors, and the framework's own, in the form that the request's path has for errors."""

    async def answer_ours(request: Request, err: Exception) -> Response:
        return error_reply(cast(GatewayError, err), request.scope)

    async def answer_validation(request: Request, err: Exception) -> Response:
        return error_reply(InvalidValueError(_describe(cast(RequestValidationError, err))), request.scope)

    async def answer_framework(request: Request, err: Exception) -> Response:
        error = cast(HTTPException, err)
        if error.status_code == 405:
            error.headers = {**(error.headers or {}), "Allow": _allowed(routes, request.scope)}
        code = _CODES.get(error.status_code, "http_error")
        request_id = context_of(request.scope).id
        body = format_message(request.scope["path"], code, _explain(request, error), request_id=request_id)
        return JsonResponse(body, error.status_code, error.headers)

    app.add_exception_handler(GatewayError, answer_ours)
    app.add_exception_handler(RequestValidationError, answer_validation)
    app.add_exception_handler(HTTPException, answer_framework)


def _allowed(routes: Sequence[BaseRoute], scope: Scope) -> str:
    """Return the methods of a path, which several routes may share, but for those of routes that refused this one."""
    meant = (route for route in routes if route.matches(scope)[0] is Match.PARTIAL)
    methods = {method for route in meant for method in getattr(route, "methods", None) or ()}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _explain(request: Request, err: HTTPException) -> str:
    if err.status_code == 404:
        return "no such route; GET /docs lists those that exist"
    if err.status_code == 405:
        allowed = (err.headers or {}).get("Allow", "another method")
        return f"expected {allowed}. Received: {request.method[:16]}"
    return str(err.detail)


def _describe(err: RequestValidationError) -> str:
    """Name the first wrong parameter; at most a few characters of its value are repeated."""
    error = err.errors()[0]
    name = ".".join(str(part) for part in error["loc"][1:])[:64]
    if error["type"] == "extra_forbidden":
        return f"unknown parameter {name!r}; GET /docs lists those that exist"
    return f"{name}: {error['msg']}. Received: {str(error.get('input'))[:64]!r}"
