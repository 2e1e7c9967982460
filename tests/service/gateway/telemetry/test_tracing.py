"""Traces: one for each request, from the client's span to the model server's, sent to a real OTLP endpoint."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.app import create_app
from service.gateway.context.settings import Settings
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.gateway.conftest import wait_until_ready

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans, as a collector for OTLP over HTTP does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert "/v1/traces" == self.path
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of one message."""
        for resource in request.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that listens."""
    with Collector() as listening:
        yield listening


def attributes(span: Any) -> dict[str, Any]:
    """Return a span's attributes."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_request_is_one_trace_from_client_to_model_server(
    collector: Collector, backend: ScriptedBackend, index: ModelStore
) -> None:
    """The client's trace goes on; stages are children of the request; the model server is told its parent."""
    settings = Settings(backend=backend.address, models_dir=index.root, otlp_endpoint=collector.url)
    with TestClient(create_app(settings)) as client:
        wait_until_ready(client)
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "id-42"}
        reply = client.post("/v1/predict", files={"file": ("Jane.png", encode("red"))}, headers=headers)
        told = backend.metadata[-1]["traceparent"]
        client.get("/none")
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    request = spans["POST /v1/predict"]

    assert 200 == reply.status_code
    assert {"POST /v1/predict", "read", "decode", "queue", "model", "encode"} == spans.keys()
    assert PARENT == request.parent_span_id.hex()
    assert all(request.span_id == span.parent_span_id for name, span in spans.items() if name != request.name)
    assert f"00-{TRACE}-{spans['model'].span_id.hex()}-01" == told
    assert {
        "http.request.method": "POST", "http.route": "/v1/predict", "http.response.status_code": 200,
        "fovea.request_id": "id-42",
    } == attributes(request)  # fmt: skip
    assert {"fovea-gateway"} == collector.services
    assert "GET" in {span.name for span in collector.spans}
    assert "Jane" not in str(collector.spans)


def test_nothing_is_traced_by_default(client: TestClient, backend: ScriptedBackend) -> None:
    """Nor is anything sent along to the model server."""
    client.post("/v1/predict", content=encode("red"), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})

    assert not any("traceparent" in metadata for metadata in backend.metadata)


def test_without_the_extra_the_start_says_so(index: ModelStore) -> None:
    """Not a service without the traces that were asked for."""
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; from service.gateway.cli import main; "
        f"sys.exit(main(['--models-dir={index.root}', '--port=0', '--otlp-endpoint=http://127.0.0.1:1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    assert 1 == done.returncode
    assert (
        "gateway: expected the extra otel for traces: pip install 'fovea-serving[otel]'" == done.stderr.splitlines()[-1]
    )
