"""The API's OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from service.gateway.context.prefixes import PREFIX

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def send_document(request: Request) -> JSONResponse:
    """Return the OpenAPI document; behind a prefix its paths are below that."""
    document = request.app.openapi()
    prefix = request.scope.get(PREFIX)
    return JSONResponse({**document, "servers": [{"url": prefix}]} if prefix else document)
