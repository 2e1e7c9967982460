"""The monitoring port: `/metrics`, `/healthz` and `/readyz` over HTTP, served by threads beside the event loop."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from service.modelserver.errors import BindError
from service.modelserver.health import Health

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_METRICS_PATHS = ("/", "/metrics", "/monitoring/prometheus/metrics")  # the last is TensorFlow Serving's
_METHODS = ("GET", "HEAD")


def listen(host: str, port: int, *, registry: CollectorRegistry, health: Health) -> WSGIServer:
    """Serve metrics and health from a thread, until the server that is returned is shut down.

    Raises:
        BindError: if the address cannot be listened on.
    """
    try:
        server = make_server(host, port, _app(registry, health), _server_class(host), _QuietHandler)
    except OSError as err:
        raise BindError(
            f"cannot listen on {host}:{port}: {err.strerror or err}; choose another with --monitoring_port"
        ) from err
    threading.Thread(target=server.serve_forever, name="monitoring", daemon=True).start()
    return server


class _QuietHandler(WSGIRequestHandler):
    timeout = 30.0  # of a connection that sends nothing

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: these paths are polled for ever."""


def _server_class(host: str) -> type[WSGIServer]:
    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Drop a connection that ended before its reply."""

    return Server


def _app(registry: CollectorRegistry, health: Health) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(registry)
    pages: dict[str, Callable[[], tuple[HTTPStatus, dict[str, Any]]]] = {
        "/healthz": lambda: (HTTPStatus.OK, {"status": "ok"}),
        "/readyz": lambda: _describe(health),
    }

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        allow = []
        if method not in _METHODS:
            status, document = (
                HTTPStatus.METHOD_NOT_ALLOWED,
                {"error": f"expected GET or HEAD. Received: {method[:16]}"},
            )
            allow = [("Allow", ", ".join(_METHODS))]
        elif path in _METRICS_PATHS:
            body = b"".join(metrics({**environ, "REQUEST_METHOD": "GET"}, start_response))
            return [] if method == "HEAD" else [body]
        elif path in pages:
            status, document = pages[path]()
        else:
            status, document = HTTPStatus.NOT_FOUND, {"error": "expected /metrics, /healthz or /readyz"}
        body = json.dumps(document).encode() + b"\n"
        length = ("Content-Length", str(len(body)))
        start_response(
            f"{status.value} {status.phrase}",
            [("Content-Type", "application/json"), length, ("Cache-Control", "no-store"), *allow],
        )
        return [] if method == "HEAD" else [body]

    return answer


def _describe(health: Health) -> tuple[HTTPStatus, dict[str, Any]]:
    verdict = health.verdict
    status = HTTPStatus.OK if verdict.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return status, {"status": "ready" if verdict.is_ready else "not ready", **dataclasses.asdict(verdict)}
