"""The documentation's page."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.gateway.docs_page import CONTENT_SECURITY_POLICY, render_docs

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def show_docs(request: Request) -> HTMLResponse:
    """Return the documentation as a page that works offline."""
    headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "x-content-type-options": "nosniff"}
    return HTMLResponse(render_docs(request.app.openapi()), headers=headers)
