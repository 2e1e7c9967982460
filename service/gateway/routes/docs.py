"""The API's documentation, as a page and as an OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from service.gateway.context.prefixes import PREFIX, link_root
from service.gateway.documentation.docs_page import CONTENT_SECURITY_POLICY, render_docs

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def show_docs(request: Request) -> HTMLResponse:
    """Return the documentation as a page that works offline."""
    headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "x-content-type-options": "nosniff"}
    return HTMLResponse(render_docs(request.app.openapi(), root=link_root(request.scope)), headers=headers)


@router.get("/openapi.json")
async def send_document(request: Request) -> JSONResponse:
    """Return the OpenAPI document; behind a prefix its paths are below that."""
    document = request.app.openapi()
    prefix = request.scope.get(PREFIX)
    return JSONResponse({**document, "servers": [{"url": prefix}]} if prefix else document)
