"""The gateway's Prometheus metrics. Every app has its own registry, so two apps in one process do not clash.

Label values are bounded: routes and methods are those of the app, models, versions and classes those of the contracts
of the served versions; nothing that a client sends becomes a label.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)

from contract.predictions import Prediction
from service.gateway.context.errors import GatewayError, RefusedImageError
from service.gateway.telemetry.tracing import start_span

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer
    from prometheus_client.registry import Collector

# Otherwise each counter and histogram has a further gauge, the time of its first update.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
_SHED_REASONS = ("queue_full", "too_many_bytes")
_STAGES = (
    "Time of one stage of a prediction: read (the body), decode (to pixels), queue (for a place), model (the model "
    "server), encode (the reply)."
)


class Ranked(Protocol):
    """A classified image."""

    @property
    def top(self) -> Sequence[Prediction]:
        """The most probable classes, best first."""

    @property
    def warnings(self) -> Sequence[str]:
        """Codes of the warnings about the image."""


class Metrics:
    """The gateway's counters, gauges and histograms; to be updated from the event loop only.

    Args:
        tracer: makes a span of each stage; None when requests are not traced.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self.registry = CollectorRegistry()
        registry = self.registry
        counters, histograms = partial(_counters, registry), partial(_histograms, registry)
        by_version = ("model", "version")
        self._requests = counters("fovea_requests", "Requests answered.", "route", "method", "code")
        self._received = counters("fovea_received_bytes", "Bytes of request bodies.", "route")
        self._sent = counters("fovea_sent_bytes", "Bytes of reply bodies.", "route")
        self._shed = counters("fovea_shed", "Requests refused because there was too much to do.", "reason")
        for reason in _SHED_REASONS:  # from 0 on: a rate needs two samples
            self._shed(reason)
        self._images = counters("fovea_images", 'Images, by outcome: "ok" or the error.', "outcome")
        self._predictions = counters(
            "fovea_predictions", "Images by the class that was found most probable.", *by_version, "label"
        )
        self._warnings = counters("fovea_warnings", "Classified images with a warning.", *by_version, "warning")
        self._model_requests = counters(
            "fovea_model_requests",
            'Requests that reached the model server, by version and outcome: "ok" or the error.',
            *by_version,
            "code",
        )
        self._model_seconds = histograms(
            "fovea_model_seconds",
            "Time that a request waits for the model server, by the version that answers.",
            *by_version,
        )
        self._audit_failures = Counter(
            "fovea_audit_log_failures",
            "Requests that failed because the audit log cannot be written.",
            registry=registry,
        )
        self._request_seconds = histograms(
            "fovea_request_seconds", "From the first byte of a request to the last of its reply.", "route"
        )
        self._stage_seconds = histograms("fovea_stage_seconds", _STAGES, "stage")
        self._confidence = histograms(
            "fovea_confidence",
            "Probability of the class that was found most probable.",
            *by_version,
            buckets=_PROBABILITIES,
        )
        self._in_flight = Gauge("fovea_requests_in_flight", "Requests being answered now.", registry=registry)
        self._ready = Gauge("fovea_ready", "1 when /readyz says ready.", registry=registry)
        ProcessCollector(registry=registry)

    def request(self) -> AbstractContextManager[None]:
        """Count a request as in flight: a context manager."""
        return self._in_flight.track_inprogress()

    def count_request(self, route: str, method: str, *, code: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests(route, method, code).inc()
        self._request_seconds(route).observe(seconds)

    def count_bytes(self, route: str, *, received: int, sent: int) -> None:
        """Count the bodies of a request and its reply, bytes."""
        self._received(route).inc(received)
        self._sent(route).inc(sent)

    def count_shed(self, reason: str) -> None:
        """Count a request that was refused because there was too much to do; the reasons are the program's own."""
        self._shed(reason).inc()

    def stage(self, name: str) -> Stage:
        """Time a stage of a prediction, whether it succeeds or not: a context manager."""
        span = None if self._tracer is None else start_span(self._tracer, name)
        return Stage(self._stage_seconds(name), span)

    @contextmanager
    def version(self, model: str, version: int) -> Iterator[None]:
        """Time the model server's work for a request and count its outcome: a context manager.

        Args:
            model: name of a loaded model.
            version: a version of it that the model server has, so that clients cannot make up label values.
        """
        start = time.perf_counter()
        try:
            yield
        except GatewayError as err:
            self._model_requests(model, version, err.code).inc()
            raise
        self._model_requests(model, version, "ok").inc()
        self._model_seconds(model, version).observe(time.perf_counter() - start)

    def count_audit_failure(self) -> None:
        """Count a request that failed because the audit log cannot be written."""
        self._audit_failures.inc()

    def count_answer(self, model: str, version: int, *, entries: Sequence[Ranked | RefusedImageError]) -> None:
        """Count the images of one answer."""
        for entry in entries:
            if isinstance(entry, RefusedImageError):
                self._images(entry.code).inc()
            else:
                best = entry.top[0]
                self._images("ok").inc()
                self._predictions(model, version, best.id).inc()
                self._confidence(model, version).observe(best.probability)
                for warning in entry.warnings:
                    self._warnings(model, version, warning).inc()

    def count_images(self, entries: Sequence[object]) -> None:
        """Count the images of an answer that names no classes."""
        for entry in entries:
            self._images(entry.code if isinstance(entry, RefusedImageError) else "ok").inc()

    def count_refused(self, entries: Sequence[object]) -> None:
        """Count the refused images among others."""
        for entry in entries:
            if isinstance(entry, RefusedImageError):
                self._images(entry.code).inc()

    def show(self, collector: Collector) -> None:
        """Show gauges that are read when metrics are read."""
        self.registry.register(collector)

    def set_ready(self, ready: bool) -> None:
        """Say whether the gateway is ready."""
        self._ready.set(ready)

    def expose(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)

    def listen(self, host: str, port: int) -> tuple[str, Callable[[], None]]:
        """Serve nothing but the metrics, from a thread; return the URL and the function that stops it.

        Raises:
            OSError: if the address cannot be listened on.
        """
        server, thread = start_http_server(port, host, self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return f"http://{host}:{server.server_port}/metrics", close


def _counters(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Callable[..., Counter]:
    """Return a function from label values to their counter.

    It keeps what it has returned: prometheus_client looks for it under a lock each time. No series is ever removed.
    """
    return cache(Counter(name, text, labels, registry=registry).labels)


def _histograms(
    registry: CollectorRegistry, name: str, text: str, *labels: str, buckets: Sequence[float] = _SECONDS
) -> Callable[..., Histogram]:
    """Return a function from label values to their histogram, which keeps it as `_counters` does."""
    return cache(Histogram(name, text, labels, buckets=buckets, registry=registry).labels)


class Stage:
    """Times a block.

    Args:
        histogram: where the seconds go.
        span: of a trace, around it; None when requests are not traced.
    """

    __slots__ = ("_histogram", "_span", "_start")

    def __init__(self, histogram: Histogram, span: AbstractContextManager[object] | None) -> None:
        self._histogram = histogram
        self._span = span
        self._start = 0.0

    def __enter__(self) -> None:
        if self._span is not None:
            self._span.__enter__()
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._histogram.observe(time.perf_counter() - self._start)
        if self._span is not None:
            self._span.__exit__(None, None, None)
