"""Pages of other origins: off by default, and on for the origins that are named, errors included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.context.settings import Settings, SettingsError, load_settings
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.gateway.conftest import StartGateway, wait_until_ready

ORIGIN = "https://app.example.org"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-api-key,content-type,x-request-id",
}
StartCors = Callable[..., TestClient]


@pytest.fixture(name="start_cors")
def fixture_start_cors(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, tmp_path: Path
) -> StartCors:
    """A function that starts a gateway with keys, of which there are none."""
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')

    def start(**settings: Any) -> TestClient:
        client = start_gateway(backend=backend.address, models_dir=index.root, **{"keys_file": keys, **settings})
        wait_until_ready(client)
        return client

    return start


def test_off_by_default(start_cors: StartCors) -> None:
    """No header says that a page may read a reply, and a preflight is a request without a key."""
    client = start_cors()
    replies = [client.options("/v1/predict", headers=PREFLIGHT), client.get("/healthz", headers={"origin": ORIGIN})]

    assert [401, 200] == [reply.status_code for reply in replies]
    assert not any(name.startswith("access-control-") for reply in replies for name in reply.headers)


@pytest.mark.parametrize(
    "path", ["/v1/predict", "/v1/predict/", "/v1/models/colours:predict", "/v2/models/colours/infer"]
)
def test_preflight_is_answered_before_a_key_is_asked_for(start_cors: StartCors, path: str) -> None:
    """Browsers send no key with it; it is counted under its route."""
    client = start_cors(cors_origins=f"https://other.example,{ORIGIN}")
    reply = client.options(path, headers=PREFLIGHT)

    assert 200 == reply.status_code
    assert ORIGIN == reply.headers["access-control-allow-origin"]
    assert "POST" in reply.headers["access-control-allow-methods"].split(", ")
    assert "x-api-key" in reply.headers["access-control-allow-headers"]
    assert reply.headers["x-request-id"]
    assert "Origin" in reply.headers["vary"]
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"origin": "https://evil.example"}, "origin 'https://evil.example' is not one of FOVEA_CORS_ORIGINS"),
        ({"origin": "null"}, "origin 'null' is not one of"),
        ({"origin": ORIGIN + ".evil.example"}, "is not one of"),
        ({"access-control-request-method": "TRACE"}, "expected one of the methods GET, HEAD, POST, DELETE"),
    ],
)
def test_other_origins_and_methods_are_refused_in_words(
    start_cors: StartCors, change: dict[str, str], words: str
) -> None:
    """The browser's console shows the reply."""
    client = start_cors(cors_origins=ORIGIN)
    reply = client.options("/v1/predict", headers=PREFLIGHT | change)

    assert (403, "forbidden") == (reply.status_code, reply.json()["error"]["code"])
    assert words in reply.json()["error"]["message"]
    assert ("origin" not in change) == ("access-control-allow-origin" in reply.headers)


def test_every_reply_can_be_read(start_cors: StartCors, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the short way, refused anywhere, or failed: what a page needs is exposed."""
    client = start_cors(cors_origins=ORIGIN, keys_file=None, max_body_bytes=2000)
    origin = {"origin": ORIGIN}
    replies = {
        "answered": client.post("/v1/predict", content=encode("red"), headers=origin),
        "no-route": client.get("/none", headers=origin),
        "method": client.put("/v1/predict", headers=origin),
        "too-large": client.post("/v1/predict", content=bytes(3000), headers=origin),
        "deadline": client.post("/v1/predict", content=b"", headers=origin | {"x-request-timeout": "soon"}),
        "head": client.head("/healthz", headers=origin),
    }
    monkeypatch.setattr(client.app.state.components.catalog, "names", lambda: 1 / 0)  # type: ignore[attr-defined]
    replies["failed"] = client.get("/v1/models", headers=origin)

    assert [200, 404, 405, 413, 422, 200, 500] == [reply.status_code for reply in replies.values()]
    for reply in replies.values():
        assert ORIGIN == reply.headers["access-control-allow-origin"]
        assert {"X-Request-ID", "Retry-After"} <= set(reply.headers["access-control-expose-headers"].split(", "))
        assert "Origin" in reply.headers["vary"]


def test_refused_key_can_be_read(start_cors: StartCors) -> None:
    """Without the headers a page would see a network error."""
    reply = start_cors(cors_origins=ORIGIN).post("/v1/predict", content=b"", headers={"origin": ORIGIN})

    assert (401, ORIGIN) == (reply.status_code, reply.headers["access-control-allow-origin"])


def test_star_lets_every_page_in(start_cors: StartCors) -> None:
    """And programs without an origin are answered as ever."""
    client = start_cors(cors_origins="*")

    assert "*" == client.options("/v1/predict", headers=PREFLIGHT).headers["access-control-allow-origin"]
    assert (
        "*" == client.get("/healthz", headers={"origin": "https://any.example"}).headers["access-control-allow-origin"]
    )
    assert "access-control-allow-origin" not in client.get("/healthz").headers


def test_origin_that_is_not_named_is_served_without_headers(start_cors: StartCors) -> None:
    """The browser keeps the reply from the page."""
    reply = start_cors(cors_origins=ORIGIN).get("/healthz", headers={"origin": "https://evil.example"})

    assert 200 == reply.status_code
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://App.Example.org:443", ("https://app.example.org",)),
        ("http://localhost:3000, http://[::1]:80", ("http://localhost:3000", "http://[::1]")),
        ("*", ("*",)),
        ("", ()),
    ],
)
def test_origins_are_read_as_browsers_write_them(value: str, expected: tuple[str, ...]) -> None:
    """In lower case, without a default port."""
    assert expected == load_settings(["--models=eyes"], {"FOVEA_CORS_ORIGINS": value}).cors_origins
    assert expected == Settings(models=("eyes",), cors_origins=value).cors_origins  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["app.example.org", "https://a.example/", "https://a.example/x", "https://*.a", "null"]
)
def test_anything_else_is_no_origin(value: str) -> None:
    """An origin that never matches is a mistake."""
    with pytest.raises(SettingsError, match="FOVEA_CORS_ORIGINS: expected origins such as"):
        load_settings(["--models=eyes"], {"FOVEA_CORS_ORIGINS": value})
