"""HEAD is answered like GET, without the body."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from service.gateway.app import create_app
from service.gateway.context.settings import Settings
from tests.helpers.gateway_process import ServiceProcess

DOCUMENT = create_app(Settings(models=("colours",))).openapi()
PATHS = [path for path, methods in DOCUMENT["paths"].items() if "get" in methods]
OTHERS = ["/", "/docs", "/openapi.json", "/web/app.js", "/none", "/v1/models/none", "/v1/predict"]


@pytest.mark.parametrize("path", [*PATHS, *OTHERS])
def test_head_has_the_status_and_headers_of_get(shared_client: TestClient, path: str) -> None:
    """Content-Length too, which tells the size without the transfer; refusals included."""
    path = path.replace("{model}", "colours").replace("{version}", "1").replace("{label}", "live")
    get, head = shared_client.get(path), shared_client.head(path)

    assert get.status_code == head.status_code
    assert b"" == head.content
    assert set(get.headers) == set(head.headers)
    assert get.headers["content-type"] == head.headers["content-type"]
    if path != "/metrics" and get.status_code == 200:
        assert get.headers["content-length"] == head.headers["content-length"]


def test_metrics_and_allow_know_head(shared_client: TestClient) -> None:
    """The route is named, no bytes are counted, and a refused method is told both."""
    shared_client.head("/v1/models")
    text = shared_client.get("/metrics").text

    assert 'fovea_requests_total{code="200",method="HEAD",route="/v1/models"}' in text
    assert {"GET", "HEAD"} == set(shared_client.put("/v1/models").headers["allow"].split(", "))


def test_connection_stays_usable_after_head(gateway: tuple[ServiceProcess, str]) -> None:
    """No body follows on the wire: the next reply is read as one."""
    connection = http.client.HTTPConnection(urlsplit(gateway[1]).netloc, timeout=60)
    for method in ("HEAD", "GET", "HEAD", "GET"):
        connection.request(method, "/healthz")
        reply = connection.getresponse()
        assert (200, b"" if method == "HEAD" else b'{"status":"ok"}') == (reply.status, reply.read())
    connection.close()
