"""Loads Swagger UI's script and style sheet from the package that ships them."""

from __future__ import annotations

import functools
import importlib.resources

from service.gateway.web.web_files import WebFile, build_web_file

# fastapi-swagger's copies are those of Swagger UI's own releases; its function that installs routes is not used, since
# the page it makes needs an inline script.
_PACKAGE = "fastapi_swagger.resources"
SWAGGER_UI_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")


@functools.cache
def load_swagger_ui(name: str) -> WebFile:
    """Return one of `SWAGGER_UI_FILES`; the first call reads it from the disk."""
    return build_web_file(name, importlib.resources.files(_PACKAGE).joinpath(name).read_bytes())
