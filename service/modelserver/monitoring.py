"""The model server's Prometheus metrics, on a port of its own: calls, batches, engines and precisions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from engine.errors import EngineError
from service.modelserver.serving.scheduling import BatchRecord, ModelQueue
from service.modelserver.serving.versions import ServedVersion

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_PREFIX = "fovea_modelserver_"
_VERSION = ("model", "version")


@dataclass(slots=True)
class CallLabels:
    """Labels of a call's metrics; without a model until one is found, so that callers cannot make series."""

    model: str = ""
    version: str = ""
    status: str = "INTERNAL"


class Metrics:
    """Counts calls and batches of the model server; its registry is its own, so several servers can share a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        run = (*_VERSION, "signature")
        self._requests = Counter(_PREFIX + "requests", "Predict calls", (*_VERSION, "status"), **own)
        self._seconds = Histogram(_PREFIX + "request_seconds", "of Predict calls", _VERSION, buckets=_SECONDS, **own)
        self._rows = Histogram(_PREFIX + "batch_rows", "rows run together", run, buckets=_ROWS, **own)
        self._waits = Histogram(_PREFIX + "queue_seconds", "before a call runs", run, buckets=_SECONDS, **own)
        self._runs = Histogram(_PREFIX + "run_seconds", "of a batch", run, buckets=_SECONDS, **own)
        self._info = Gauge(
            _PREFIX + "model_info", "1: it is loaded", (*_VERSION, "engine", "precision", "streams", "max_batch"), **own
        )
        ProcessCollector(registry=self.registry)

    @contextlib.contextmanager
    def call(self) -> Iterator[CallLabels]:
        """Count the call that is made in this context, under the labels that it is given there."""
        labels, started = CallLabels(), time.monotonic()
        try:
            yield labels
            labels.status = "OK"
        except asyncio.CancelledError:
            labels.status = "CANCELLED"  # the caller left, or its deadline passed
            raise
        except EngineError as err:
            labels.status = err.code
            raise
        finally:
            self._requests.labels(labels.model, labels.version, labels.status).inc()
            if labels.model:
                self._seconds.labels(labels.model, labels.version).observe(time.monotonic() - started)

    def count_batch(self, version: ServedVersion, batch: BatchRecord) -> None:
        """Count a batch."""
        labels = (version.model, version.number, batch.signature)
        self._rows.labels(*labels).observe(batch.rows)
        self._runs.labels(*labels).observe(batch.run_s)
        for wait_s in batch.waits_s:
            self._waits.labels(*labels).observe(wait_s)

    def show(self, version: ServedVersion, queue: ModelQueue) -> None:
        """Show a loaded version."""
        run = (queue.engine.name, queue.engine.precision, queue.plan.num_streams, queue.plan.max_batch)
        self._info.labels(version.model, version.number, *run).set(1)

    def forget(self, version: ServedVersion) -> None:
        """Drop the series of a version that is gone, but for the count of its calls."""
        for metric in (self._seconds, self._rows, self._waits, self._runs, self._info):
            metric.remove_by_labels({"model": version.model, "version": str(version.number)})
