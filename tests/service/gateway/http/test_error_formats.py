"""Every error of the two tensor protocols is a text, whichever part of the gateway refuses the request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.context.errors import ModelNotFoundError, OverloadedError
from service.gateway.http.error_formats import format_error, format_message
from service.key import main
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.conftest import StartProcess
from tests.service.gateway.conftest import StartGateway, wait_until_ready

WHERE = ("none", "colours", "colours/versions/9", "colours/versions/x", "colours/labels/x")
VERBS = [f"/v1/models/{where}:{verb}" for where in WHERE for verb in ("predict", "classify", "regress", "generate", "")]
VERBS += ["/v1/models/none:predict/", "/v1/models/a/b/c:predict", "/v1/models/:predict", "/v1/models/a:b:predict"]
METADATA = [f"/v1/models/{where}/metadata" for where in ("none", "none/versions/9", "none/labels/live")]
V2 = [f"/v2/models/none{path}" for path in ("", "/", "/config", "/infer", "/infer/", "/ready", "/stats", "/versions/x")]
V2 += ["/v2/repository/index", "/v2/repository/models/none/load", "/v2/nothing", "/v2//", "/v2/models/%00", "/v2/a:b"]
TEXT_PATHS = (*VERBS, *METADATA, *V2)
OBJECT_PATHS = ("/v1/predict", "/v1/models/none", "/v1/models/metadata", "/v1/nothing", "/v2x", "/v22/x", "/V2", "/a:b")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
POSTS = ("/v2/models/none/infer", "/v2/nothing", "/v1/models/none:predict", "/v1/models/none:generate")


@pytest.fixture
def start(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> StartGateway:
    """A function that runs a ready gateway with some settings."""

    def run(**settings: Any) -> TestClient:
        client = start_gateway(backend=backend.address, models_dir=index.root, **settings)
        wait_until_ready(client)
        return client

    return run


def check_text(reply: Any, *status_codes: int) -> str:
    """Return the text of an error, after a look at all else."""
    assert status_codes == () or reply.status_code in status_codes, reply.text
    assert "application/json" == reply.headers["content-type"]
    document = reply.json()
    assert {"error"} == document.keys()
    assert isinstance(document["error"], str), reply.request.url
    assert document["error"]
    return str(document["error"])


@pytest.mark.parametrize("method", METHODS)
def test_no_route_and_wrong_method(shared_client: TestClient, method: str) -> None:
    """404 and 405 of the framework, and what the routes say, on every path."""
    for path in TEXT_PATHS:
        reply = shared_client.request(method, path, follow_redirects=False)
        if reply.status_code >= 400:
            check_text(reply, 400, 404, 405, 503)
    for path in OBJECT_PATHS:
        reply = shared_client.request(method, path, follow_redirects=False)
        assert reply.status_code < 400 or {"code", "message", "request_id"} == reply.json()["error"].keys()


def test_keys(start: StartGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """401 without a key or with a wrong one, 403 with one for something else."""
    path = tmp_path / "keys.json"
    assert 0 == main(["add", "a", "--keys", str(path), "--rights", "feedback"])
    other = capsys.readouterr().out.strip()
    client = start(keys_file=path)
    for url in TEXT_PATHS:
        for method in ("GET", "POST"):
            none = client.request(method, url)
            assert "expected an API key" in check_text(none, 401)
            assert none.headers["www-authenticate"].startswith("Bearer")
            check_text(client.request(method, url, headers={"x-api-key": "wrong"}), 401)
            assert "expected a key with the right" in check_text(
                client.request(method, url, headers={"x-api-key": other}), 403
            )
    assert "unauthorized" == client.get("/v1/models").json()["error"]["code"]


def test_rate_limit(start: StartGateway) -> None:
    """429, with the time after which to try again."""
    client = start(rate_limit="1/hour", auth="off")
    client.post("/v2/models/none/infer")
    for url in TEXT_PATHS:
        reply = client.post(url)
        check_text(reply, 429)
        assert int(reply.headers["retry-after"]) > 0


@pytest.mark.parametrize("url", POSTS)
def test_deadline_that_cannot_be_read(shared_client: TestClient, url: str) -> None:
    """422, before any route is looked for."""
    assert "x-request-timeout" in check_text(shared_client.post(url, headers={"X-Request-Timeout": "soon"}), 422)


BODIES = [
    pytest.param({"content": b"x" * 2000}, 413, id="declared-length"),
    pytest.param({"content": [b"x" * 600] * 3}, 413, id="chunks"),
    pytest.param({"content": b"x", "headers": {"content-encoding": "br"}}, 415, id="encoding"),
    pytest.param({"content": b"x", "headers": {"content-encoding": "gzip"}}, 400, id="gzip"),
    pytest.param({"content": b"{"}, 400, id="json"),
]


@pytest.mark.parametrize(("request_", "status"), BODIES)
@pytest.mark.parametrize("url", ["/v2/models/colours/infer", "/v1/models/colours:predict"])
def test_body(start: StartGateway, url: str, request_: dict[str, Any], status: int) -> None:
    """413, 415 and 400 of the body's reader."""
    check_text(start(max_body_bytes=1000).post(url, **request_), status)


@pytest.mark.parametrize("url", ["/v2/models/colours/infer", "/v1/models/colours:predict"])
def test_model_server(start: StartGateway, url: str) -> None:
    """502 for a model server that does not know a call, 503 where bodies hold too much."""
    document = {"inputs": [{"name": "a", "shape": [1], "datatype": "BYTES", "data": [""]}], "instances": [1]}
    body = {key: document[key] for key in (["inputs"] if url.startswith("/v2") else ["instances"])}

    check_text(start().post(url, json=body), 502)
    busy = start(max_held_bytes=1).post(url, json=body)
    check_text(busy, 503)
    assert "1" == busy.headers["retry-after"]


@pytest.fixture(name="address")
def fixture_address(
    request: pytest.FixtureRequest, start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> Iterator[tuple[str, int]]:
    """A gateway process; it gives a request half a second where that is to end."""
    limits = ("--header-timeout-s=0.5", "--body-timeout-s=0.5") if request.getfixturevalue("status") == 408 else ()
    flags = ("--port=0", "--root-path=/eyes", *limits)
    process = start_process("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", *flags)
    host, _, port = process.wait_for_url().removeprefix("http://").partition(":")
    yield host, int(port)


SLOW = "content-length: 10\r\n\r\n"
RAW = [
    pytest.param(f"POST {{path}} HTTP/1.1\r\nhost: a\r\n{SLOW}", 408, id="body-late"),
    pytest.param(f"POST {{path}} HTTP/1.1\r\nhost: a\r\nx-request-timeout: 0.1\r\n{SLOW}", 504, id="deadline"),
    pytest.param("GET {path} HTTP/1.1\r\nhost: a\r\n", 408, id="head-late"),
    pytest.param("GET {path} HTTP/1.1\r\nhost: a\r\nx: " + "a" * 70_000, 431, id="head-long"),
    pytest.param("GET {path} HTTP/1.1\r\nbad header\r\n\r\n", 400, id="not-http"),
]


CONNECTION_PATHS = (
    ("/v2/models/a/infer", True),
    ("/v1/models/a%3Apredict?x=/v1", True),
    ("/v1/predict", False),
    ("/eyes/v2/models/a/infer", True),
    ("/eyes/v1/models/a:predict", True),
    ("/eyes/v1/predict", False),
    ("http://a/v2/models/a/infer", True),
    ("http://a/eyes/v2/models/a/infer", True),
    ("http://a/v1/predict", False),
)


@pytest.mark.parametrize(("head", "status"), RAW)
def test_connection(address: tuple[str, int], head: str, status: int) -> None:
    """Refusals before there is a request: 400, 408, 431; and 504 while a body is awaited."""
    for path, is_text in CONNECTION_PATHS:
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(head.format(path=path).encode())
            reply = HTTPResponse(connection)
            reply.begin()
            error = json.loads(reply.read())["error"]
        assert status == reply.status
        assert is_text == isinstance(error, str)


SEGMENTS = st.lists(st.text(max_size=9), max_size=4).map("/".join)


@given(st.sampled_from(["/v2", "/v2/", "/v2/models/", "/v1/models/a:", "/v1/models/a/versions/1:"]), SEGMENTS)
def test_form_follows_from_the_path(start: str, rest: str) -> None:
    """Below /v2 everything; elsewhere a verb in the last segment."""
    path = start + rest if start.endswith(("/", ":")) else start + "/" + rest
    is_text = path.startswith("/v2") or ":" in path.rstrip("/").rpartition("/")[2] or path.endswith("/metadata")
    document = json.loads(format_message(path, "code", "words", request_id="id"))

    assert {"error": "words" if is_text else {"code": "code", "message": "words", "request_id": "id"}} == document


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/models/a:predict", "Servable not found for request: Latest(a)"),
        ("/v1/models/a/versions/7/metadata", "Servable not found for request: Specific(a, 7)"),
        ("/v2/models/a", "no model 'a'"),
    ],
)
def test_tensorflows_words(path: str, words: str) -> None:
    """On its own paths alone."""
    assert (404, {"error": words}) == load(format_error(path, ModelNotFoundError("no model 'a'"), request_id="7"))
    assert (503, {"error": "busy"}) == load(format_error(path, OverloadedError("busy"), request_id="7"))


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("verb", ["generate", "Predict", "predict:x", "predicts", "", "explain"])
def test_unknown_verbs_are_malformed_requests(shared_client: TestClient, where: str, verb: str) -> None:
    """As TensorFlow Serving says it."""
    text = check_text(shared_client.post(f"/v1/models/{where}:{verb}", json={}), 400)
    assert text == f"Malformed request: POST /v1/models/{where}:{verb}"


@pytest.mark.parametrize("segment", [":", "/", "a:", ":/", "/versions/", "/metadata"])
def test_long_paths_take_no_time(segment: str) -> None:
    """As long as a head may be; a quadratic pattern would take minutes."""
    for path in ("/v1/models/" + segment * 60_000 + "/x", "/v1/models/a" + segment * 60_000):
        format_error(path[:65_000], OverloadedError("busy"), request_id="7")


def load(formatted: tuple[int, str]) -> tuple[int, Any]:
    """Return status and document."""
    return formatted[0], json.loads(formatted[1])
