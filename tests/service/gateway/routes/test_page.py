"""The page's files over HTTP: types, caching, security headers. What it does is in tests/service/gateway/web."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.errors import ImageError
from contract.novelty import WARNING
from service.gateway.context.errors import GatewayError
from service.gateway.web.swagger_ui import SWAGGER_UI_FILES
from service.gateway.web.web_files import load_web_files

FILES = [*sorted(load_web_files()), *SWAGGER_UI_FILES]


@pytest.mark.parametrize("name", ["", "docs", *(f"web/{name}" for name in FILES)])
def test_files_come_with_type_hash_and_a_strict_policy(client: TestClient, name: str) -> None:
    """Each file is what its type says, is not sniffed, and may use nothing but the gateway."""
    reply = client.get(f"/{name}")
    kind = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    policy = reply.headers["content-security-policy"]

    assert 200 == reply.status_code
    assert reply.headers["content-type"].startswith(kind[name.rpartition(".")[2]] if "." in name else "text/html")
    assert "nosniff" == reply.headers["x-content-type-options"]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"unsafe|http|\*|data:|blob:", policy)


@pytest.mark.parametrize("path", ["/docs", "/web/app.js", "/web/swagger-ui-bundle.js"])
def test_a_file_is_sent_again_only_when_it_changed(client: TestClient, path: str) -> None:
    """The hash is compared each time: 304 without a body for the one that the browser has."""
    first = client.get(path)
    same = client.get(path, headers={"if-none-match": first.headers["etag"]})
    other = client.get(path, headers={"if-none-match": '"0"'})

    assert "no-cache" == first.headers["cache-control"]
    assert (304, b"") == (same.status_code, same.content)
    assert first.headers["etag"] == same.headers["etag"]
    assert (200, first.content) == (other.status_code, other.content)


@pytest.mark.parametrize("path", ["/web/", "/web/nothing.js", "/web/../app.py", "/web/%2e%2e%2fapp.py", "/web/.env"])
def test_nothing_else_is_sent(client: TestClient, path: str) -> None:
    """Names that are no file of the page are not found, wherever they point."""
    assert 404 == client.get(path).status_code


def test_head_tells_the_same_without_a_body(client: TestClient) -> None:
    """For link checkers and proxies."""
    reply = client.head("/")

    assert (200, b"") == (reply.status_code, reply.content)
    assert reply.headers["etag"] == client.get("/").headers["etag"]


def test_markup_names_no_other_origin() -> None:
    """Nothing is loaded from elsewhere, and there is no inline script, style or handler for the policy to stop."""
    files = load_web_files()
    pages = (files["index.html"].content + files["docs.html"].content).decode()

    assert not re.search(r"<style|\bstyle=|\bon\w+=|<script(?! type=\"module\" src=| src=)", pages)
    # No browser fetches these: the name of SVG, and the address that samples are written with.
    addresses = {found for file in files.values() for found in re.findall(rb"https?://[\w./]+", file.content)}
    assert addresses <= {b"http://www.w3.org/2000/svg", b"http://127.0.0.1"}
    assert not [name for name, file in files.items() if re.search(rb"innerHTML|outerHTML|insertAdjacent", file.content)]


def test_its_words_are_for_codes_that_exist() -> None:
    """A code that is renamed here would lose its words there; three are the page's own."""
    words = load_web_files()["words.js"].content.decode()
    warnings, failures = re.findall(r"^const (?:WARNINGS|FAILURES) = {\n(.*?)^};", words, re.M | re.S)
    own = {"unreachable", "unreadable_file", "no_answer"}
    known = {kind.code for root in (GatewayError, ImageError) for kind in subclasses(root)}

    assert f'UNLIKE = "{WARNING}";' in words
    assert {"[UNLIKE]"} == set(re.findall(r"^  ([\w\[\]]+):", warnings, re.M))
    assert set() == set(re.findall(r"^  (\w+):", failures, re.M)) - own - known


def subclasses(root: type[Any]) -> set[type[Any]]:
    """Return a class's subclasses, theirs included, that have a code of their own."""
    found = {kind for child in root.__subclasses__() for kind in {child, *subclasses(child)}}
    return {kind for kind in found if isinstance(getattr(kind, "code", None), str)}
