"""What Prometheus is told. Every app has its own registry, so two apps in one process do not clash.

Label values are bounded: routes and methods are those of the app, models, versions and classes those of the contracts
of what is served; nothing that a client sends becomes a label.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from service.gateway.errors import RefusedImageError

if TYPE_CHECKING:
    from service.gateway.prediction import Entry

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The gateway's counters, gauges and histograms."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "fovea_requests", "Requests answered.", ("route", "method", "code"), registry=self.registry
        )
        self._request_seconds = Histogram(
            "fovea_request_seconds",
            "From the first byte of a request to the last of its reply.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._in_flight = Gauge("fovea_requests_in_flight", "Requests being answered now.", registry=self.registry)
        self._stage_seconds = Histogram(
            "fovea_stage_seconds",
            "Time of one stage of a prediction: read, decode, predict, encode.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._images = Counter(
            "fovea_images", 'Images, by outcome: "ok" or the error.', ("outcome",), registry=self.registry
        )
        self._predictions = Counter(
            "fovea_predictions",
            "Images by the class that was found most probable.",
            ("model", "version", "label"),
            registry=self.registry,
        )
        self._ready = Gauge("fovea_ready", "1 when /readyz says ready.", registry=self.registry)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as in flight while the block runs."""
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()

    def count_request(self, route: str, method: str, *, code: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, method, str(code)).inc()
        self._request_seconds.labels(route).observe(seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of a prediction, whether it succeeds or not."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stage_seconds.labels(name).observe(time.perf_counter() - start)

    def count_answer(self, model: str, version: int, *, entries: Sequence[Entry]) -> None:
        """Count the images of one answer."""
        self.count_refused(entries)
        for entry in entries:
            if not isinstance(entry, RefusedImageError):
                self._images.labels("ok").inc()
                self._predictions.labels(model, str(version), entry.top[0].id).inc()

    def count_refused(self, entries: Sequence[object]) -> None:
        """Count the refused images among others."""
        for entry in entries:
            if isinstance(entry, RefusedImageError):
                self._images.labels(entry.code).inc()

    def set_ready(self, ready: bool) -> None:
        """Say whether the gateway is ready."""
        self._ready.set(int(ready))

    def expose(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)
