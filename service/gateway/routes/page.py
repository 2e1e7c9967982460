"""The page for people at the root, and its files."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.gateway.context.errors import NotFoundError
from service.gateway.context.prefixes import link_root
from service.gateway.web.web_files import HEADERS, load_web_files

router = APIRouter(include_in_schema=False)


@router.get("/")
async def show_page(request: Request) -> Response:
    """Return the page."""
    return _reply(request, "index.html")


@router.get("/web/{name}")
async def send_file(request: Request, name: str) -> Response:
    """Return one of the page's files."""
    return _reply(request, name)


def _reply(request: Request, name: str) -> Response:
    file = load_web_files().get(name)
    if file is None:
        raise NotFoundError("the page has no such file")
    if name == "index.html":
        file = file.with_links(link_root(request.scope))
    headers = {**HEADERS, "etag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
