"""The pages at / and /docs, and their files."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.gateway.components import Wired
from service.gateway.context.errors import NotFoundError
from service.gateway.context.prefixes import link_root
from service.gateway.web.swagger_ui import SWAGGER_UI_FILES, load_swagger_ui
from service.gateway.web.web_files import HEADERS, WebFile, load_web_files

router = APIRouter(include_in_schema=False)


@router.get("/")
async def show_page(request: Request) -> Response:
    """Return the page that classifies images."""
    return _reply(request, load_web_files()["index.html"])


@router.get("/docs")
async def show_docs(request: Request) -> Response:
    """Return the page of the API: Swagger UI, from this origin."""
    return _reply(request, load_web_files()["docs.html"])


@router.get("/review")
async def show_review(request: Request) -> Response:
    """Return the page that reviews kept images; its contents come from /v1/review, which may need a key."""
    return _reply(request, load_web_files()["review.html"])


@router.get("/web/features.json")
async def send_features(wired: Wired) -> JSONResponse:
    """Return which parts of the page this gateway has use for."""
    return JSONResponse({"feedback": wired.settings.feedback_dir is not None}, headers={"cache-control": "no-cache"})


@router.get("/web/{name}")
async def send_file(request: Request, name: str) -> Response:
    """Return one of the pages' files."""
    file = load_swagger_ui(name) if name in SWAGGER_UI_FILES else load_web_files().get(name)
    if file is None:
        raise NotFoundError("the page has no such file")
    return _reply(request, file)


def _reply(request: Request, file: WebFile) -> Response:
    if file.media_type.startswith("text/html"):
        file = file.with_links(link_root(request.scope))
    headers = {**HEADERS, "etag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
