"""Traces requests with OpenTelemetry: a span for each request and each of its stages, carried on to the model server.

The API comes with FastAPI. The SDK is the extra `otel`, imported only when an endpoint is set.
Nothing that a client sends becomes an attribute but the method and the request id.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.commands import DISTRIBUTION
from service.gateway.context.request_context import context_of

_PROPAGATOR = TraceContextTextMapPropagator()
_SERVICE = "fovea-gateway"


class TracingError(Exception):
    """Traces cannot be sent; the text is for the person who runs the service."""


class Tracing:
    """Makes spans and sends them to a collector.

    Args:
        endpoint: of a collector that speaks OTLP over HTTP, such as http://127.0.0.1:4318.

    Attributes:
        tracer: makes spans.

    Raises:
        TracingError: if the extra `otel` is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as err:
            raise TracingError(f"expected the extra otel for traces: pip install '{DISTRIBUTION}[otel]'") from err
        self._provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}))
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("service.gateway")

    def close(self) -> None:
        """Send pending spans; blocks, for a thread."""
        self._provider.shutdown()


class TraceRequests:
    """Surrounds the app with a span for each request, a child of the client's if it sends a `traceparent`.

    Args:
        app: what answers.
        tracer: makes the spans.
    """

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = _PROPAGATOR.extract(headers)
        attributes = {"http.request.method": scope["method"], "fovea.request_id": context_of(scope).id}
        with self._tracer.start_as_current_span(
            scope["method"], context=parent, kind=SpanKind.SERVER, attributes=attributes, record_exception=False
        ) as span:

            async def note_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, note_status)
            finally:
                if route := getattr(scope.get("route"), "path", None):
                    span.set_attribute("http.route", route)
                    span.update_name(f"{scope['method']} {route}")


def start_span(tracer: Tracer, name: str) -> AbstractContextManager[object]:
    """Return a span around a part of a request; of an exception it says nothing, the log has that."""
    return tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)


def carry_context() -> list[tuple[str, str]]:
    """Return the gRPC metadata that tells the model server which span a call belongs to."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return list(carrier.items())
