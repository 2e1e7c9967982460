"""Paths with a closing slash and behind a prefix: no redirect, the same doors, and links that keep the prefix."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.app import create_app
from service.gateway.context.prefixes import clean_prefix
from service.gateway.context.settings import Settings, SettingsError, load_settings
from tests.helpers.gateway_process import fetch
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.conftest import StartProcess
from tests.service.gateway.conftest import StartGateway, wait_until_ready

ROUTES = sorted(create_app(Settings(models=("colours",))).openapi()["paths"])
PAGES = ["/", "/docs", "/openapi.json", "/web/app.js"]
PROXY = "192.0.2.1"


def fill(path: str) -> str:
    """Return a path of the OpenAPI document with values in it."""
    return path.replace("{model}", "colours").replace("{version}", "1").replace("{label}", "live").replace("{id}", "0")


def links(text: str, address: str) -> list[str]:
    """Return where a page's links lead from an address, those within the page left out."""
    return [urljoin(address, link) for link in re.findall(r'(?:href|src)="([^"#]+)"', text)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("path", [*ROUTES, *PAGES[1:]])
def test_closing_slash_changes_nothing(client: TestClient, method: str, path: str) -> None:
    """Every route and method: the same status, and no Location."""
    body = encode("red") if method == "POST" else None
    plain = client.request(method, fill(path), content=body, follow_redirects=False)
    slash = client.request(method, fill(path) + "/", content=body, follow_redirects=False)

    assert plain.status_code == slash.status_code
    assert not plain.is_redirect and not slash.is_redirect
    assert "location" not in slash.headers


@pytest.mark.parametrize("path", ["/v1/predict//", "//v1/predict", "/v1//predict", "/web/", "/none/", "/v1"])
def test_other_paths_are_not_found(client: TestClient, path: str) -> None:
    """In words; a second slash is another path."""
    reply = client.request("POST", f"http://testserver{path}", follow_redirects=False)

    assert (404, "not_found") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize("path", ["/v1/predict/", "/v1/models/", "/metrics/", "/v1/feedback/", "/v2/"])
def test_closing_slash_opens_no_door(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, tmp_path: Path, path: str
) -> None:
    """A key is asked for as without it, and the metrics name the same route."""
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    client = start_gateway(backend=backend.address, models_dir=index.root, keys_file=keys, root_path="/fovea")

    assert 401 == client.post(path, content=b"x").status_code
    assert 401 == client.get(f"/fovea{path}").status_code
    assert 200 == client.get("/fovea/healthz/").status_code


@pytest.mark.parametrize("stripped", [True, False], ids=["stripped", "kept"])
@pytest.mark.parametrize("path", ["/", "/docs", "/docs/"])
def test_links_keep_the_prefix(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, path: str, stripped: bool
) -> None:
    """Each link is answered, with the prefix taken off by the proxy and without."""
    client = start_gateway(backend=backend.address, models_dir=index.root, root_path="/a/fovea/")
    asked = path if stripped else f"/a/fovea{path}"
    found = links(client.get(asked).text, f"https://example.org/a/fovea{path}")

    assert found
    for link in found:
        assert link.startswith("https://example.org/a/fovea/")
        assert 200 == client.get(link.removeprefix("https://example.org/a/fovea")).status_code


def test_links_lead_home_without_a_prefix(client: TestClient) -> None:
    """From the page, the documentation and the documentation with a slash."""
    for path in ("/", "/docs", "/docs/", "/web/index.html"):
        assert all(client.get(link).status_code == 200 for link in links(client.get(path).text, f"http://x{path}"))


def test_prefix_alone_is_the_page(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> None:
    """Its relative links would lead out of the prefix."""
    client = start_gateway(backend=backend.address, models_dir=index.root, root_path="/fovea")
    reply = client.get("/fovea")

    assert 200 == reply.status_code
    assert all(link.startswith("http://x/fovea/") for link in links(reply.text, "http://x/fovea"))
    assert 304 == client.get("/fovea", headers={"if-none-match": reply.headers["etag"]}).status_code


def test_openapi_names_the_prefix(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> None:
    """As a path, which keeps the scheme and the host that the document was fetched from."""
    behind = start_gateway(backend=backend.address, models_dir=index.root, root_path="/fovea")
    plain = start_gateway(backend=backend.address, models_dir=index.root)

    assert [{"url": "/fovea"}] == behind.get("/openapi.json").json()["servers"]
    assert "servers" not in plain.get("/openapi.json").json()
    assert behind.get("/openapi.json").json()["paths"] == plain.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("proxy", "header", "expected"),
    [
        (PROXY, "/p", "/p"),
        (PROXY, "/p/", "/p"),
        (PROXY, "/outer, /inner", "/outer/inner"),
        (PROXY, "", "/root"),
        (PROXY, "/", ""),
        (PROXY, "//evil.example", "/root"),
        (PROXY, "https://evil.example", "/root"),
        (PROXY, '/"><script>', "/root"),
        (PROXY, "/a/../b", "/root"),
        ("192.0.2.2", "/p", "/root"),
        ("unix", "/p", "/root"),
    ],
)
def test_forwarded_prefix_counts_from_trusted_proxies_only(proxy: str, header: str, expected: str) -> None:
    """It wins over the setting; anything but a path is left out. The proxy is the peer, not the client it names."""
    app = create_app(Settings(models=("colours",), trusted_proxies=(PROXY,), root_path="/root"))
    client = TestClient(app, client=(proxy, 1), raise_server_exceptions=False)
    headers = {"x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "https"}
    if header:
        headers["x-forwarded-prefix"] = header

    servers = client.get("/openapi.json", headers=headers).json().get("servers", [{"url": ""}])
    assert [{"url": expected}] == servers


def test_prefix_that_is_one_of_the_gateways_own_paths() -> None:
    """The proxy has taken it off: what is left starts alike."""
    client = TestClient(create_app(Settings(models=("colours",), root_path="/v1")), raise_server_exceptions=False)

    assert [{"url": "/v1"}] == client.get("/openapi.json").json()["servers"]
    assert 405 == client.get("/v1/predict").status_code


@pytest.mark.parametrize("value", ["fovea", "//fovea", "/fo vea", "/a/../b", "https://x/fovea", "/a?b", "/a//b", '/"'])
def test_root_path_has_to_be_a_path(value: str) -> None:
    """It stands in links."""
    with pytest.raises(SettingsError, match="--root-path: expected a path such as /fovea"):
        load_settings(["--models=eyes", f"--root-path={value}"], {})
    assert clean_prefix(value) is None


def test_root_path_of_a_process(start_process: StartProcess, backend: ScriptedBackend, index: ModelStore) -> None:
    """The flag, on a real server."""
    flags = ("--port=0", "--root-path=/fovea")
    process = start_process("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", *flags)
    url = process.wait_for_url()
    for path in ("/healthz", "/healthz/", "/fovea/healthz", "/fovea/healthz/"):
        reply = fetch(url + path)
        assert reply is not None
        assert 200 == reply.status_code


def test_fast_route_has_both_paths(client: TestClient) -> None:
    """The metrics count them as one."""
    wait_until_ready(client)
    for path in ("/v1/predict", "/v1/predict/", "/v1/predict%2F"):
        assert 200 == client.post(path, content=encode("red")).status_code

    assert 'fovea_requests_total{code="200",method="POST",route="/v1/predict"} 3.0' in client.get("/metrics").text
