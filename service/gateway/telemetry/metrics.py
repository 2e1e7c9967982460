"""What Prometheus is told. Every app has its own registry, so two apps in one process do not clash.

Label values are bounded: routes and methods are those of the app, models, versions and classes those of the contracts
of what is served; nothing that a client sends becomes a label.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, start_http_server

from contract.predictions import Prediction
from service.gateway.context.errors import RefusedImageError
from service.gateway.telemetry.metric_children import CounterSeries, GaugeSeries, HistogramSeries
from service.gateway.telemetry.tracing import start_span

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
_STAGES = (
    "Time of one stage of a prediction: read (the body), decode (to pixels), queue (for a place), model (the model "
    "server), encode (the reply)."
)


class Ranked(Protocol):
    """A classified image."""

    @property
    def top(self) -> Sequence[Prediction]:
        """The most probable classes, best first."""


class Metrics:
    """The gateway's counters, gauges and histograms; to be updated from the event loop only.

    Args:
        tracer: makes a span of each stage; None when requests are not traced.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self.registry = CollectorRegistry()
        self._in_flight = InFlight()
        self._is_ready = False
        by_class = ("model", "version", "label")
        self._requests = CounterSeries("fovea_requests", "Requests answered.", ("route", "method", "code"))
        self._received = CounterSeries("fovea_received_bytes", "Bytes of request bodies.", ("route",))
        self._sent = CounterSeries("fovea_sent_bytes", "Bytes of reply bodies.", ("route",))
        self._shed = CounterSeries("fovea_shed", "Requests refused because there was too much to do.", ("reason",))
        self._images = CounterSeries("fovea_images", 'Images, by outcome: "ok" or the error.', ("outcome",))
        self._predictions = CounterSeries(
            "fovea_predictions", "Images by the class that was found most probable.", by_class
        )
        self._request_seconds = HistogramSeries(
            "fovea_request_seconds",
            "From the first byte of a request to the last of its reply.",
            ("route",),
            bounds=_SECONDS,
        )
        self._stage_seconds = HistogramSeries("fovea_stage_seconds", _STAGES, ("stage",), bounds=_SECONDS)
        self._confidence = HistogramSeries(
            "fovea_confidence",
            "Probability of the class that was found most probable.",
            ("model", "version"),
            bounds=_PROBABILITIES,
        )
        gauges = (
            GaugeSeries(
                "fovea_requests_in_flight", "Requests being answered now.", read=lambda: {(): self._in_flight.count}
            ),
            GaugeSeries("fovea_ready", "1 when /readyz says ready.", read=lambda: {(): int(self._is_ready)}),
        )
        counters = (self._requests, self._received, self._sent, self._shed, self._images, self._predictions)
        ProcessCollector(registry=self.registry)
        for series in (*counters, self._request_seconds, self._stage_seconds, self._confidence, *gauges):
            self.registry.register(series)

    def request(self) -> InFlight:
        """Count a request as in flight: a context manager."""
        return self._in_flight

    def count_request(self, route: str, method: str, *, code: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.inc(route, method, code)
        self._request_seconds.observe(seconds, route)

    def count_bytes(self, route: str, *, received: int, sent: int) -> None:
        """Count the bodies of a request and its reply, bytes."""
        self._received.inc(route, by=received)
        self._sent.inc(route, by=sent)

    def count_shed(self, reason: str) -> None:
        """Count a request that was refused because there was too much to do; the reasons are the program's own."""
        self._shed.inc(reason)

    def stage(self, name: str) -> Stage:
        """Time a stage of a prediction, whether it succeeds or not: a context manager."""
        span = None if self._tracer is None else start_span(self._tracer, name)
        return Stage(self._stage_seconds, name, span)

    def count_answer(self, model: str, version: int, *, entries: Sequence[Ranked | RefusedImageError]) -> None:
        """Count the images of one answer."""
        for entry in entries:
            if isinstance(entry, RefusedImageError):
                self._images.inc(entry.code)
            else:
                best = entry.top[0]
                self._images.inc("ok")
                self._predictions.inc(model, version, best.id)
                self._confidence.observe(best.probability, model, version)

    def count_refused(self, entries: Sequence[object]) -> None:
        """Count the refused images among others."""
        for entry in entries:
            if isinstance(entry, RefusedImageError):
                self._images.inc(entry.code)

    def show_models(self, read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """Show what is loaded.

        Args:
            read: returns 1 for each (model, version, contract hash). Engine and precision are in the model server's
                own metrics, by model and version: nobody else knows them.
        """
        labels = ("model", "version", "contract")
        self.registry.register(GaugeSeries("fovea_model_info", "1 for a version that answers.", labels, read=read))

    def set_ready(self, ready: bool) -> None:
        """Say whether the gateway is ready."""
        self._is_ready = ready

    def expose(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)

    def listen(self, host: str, port: int) -> tuple[str, Callable[[], None]]:
        """Serve nothing but the metrics, from a thread; return the URL and what ends it.

        Raises:
            OSError: if the address cannot be listened on.
        """
        server, thread = start_http_server(port, host, self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return f"http://{host}:{server.server_port}/metrics", close


class InFlight:
    """Counts the requests inside it; one object for all of them.

    Attributes:
        count: how many there are.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class Stage:
    """Times what happens inside it.

    Args:
        series: where the seconds go.
        name: of the stage.
        span: of a trace, around it; None when requests are not traced.
    """

    __slots__ = ("_name", "_series", "_span", "_start")

    def __init__(self, series: HistogramSeries, name: str, span: AbstractContextManager[object] | None) -> None:
        self._series = series
        self._name = name
        self._span = span
        self._start = 0.0

    def __enter__(self) -> None:
        if self._span is not None:
            self._span.__enter__()
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._series.observe(time.perf_counter() - self._start, self._name)
        if self._span is not None:
            self._span.__exit__(None, None, None)
