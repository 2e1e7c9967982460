"""Prometheus metrics of trials: what candidates do with live traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.trials.trial import KINDS, Trial

_BY_KIND = ("model", "version", "kind")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_OUTCOMES = ("ok", "error", "not_loaded", "unreachable", "dropped")


class TrialMetrics:
    """Counters of the candidates that are tried; to be updated from the event loop only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "fovea_trial_calls",
            "Requests that a candidate was given, by kind of trial and outcome: ok, error, not_loaded (yet), "
            "unreachable (the model server), dropped (a shadow call, for want of room).",
            (*_BY_KIND, "outcome"),
            registry=registry,
        )
        self._known: set[tuple[str, int, str]] = set()
        self._seconds = Histogram(
            "fovea_trial_seconds",
            "Time of a candidate's answer, decoding included.",
            _BY_KIND,
            buckets=_SECONDS,
            registry=registry,
        )
        self._warned = Counter(
            "fovea_trial_warned_images", "Images with a warning by a candidate.", _BY_KIND, registry=registry
        )
        self._images = Counter(
            "fovea_shadow_images",
            "Images of shadow calls, by agreement of the most probable class: same or other.",
            ("model", "version", "agreement"),
            registry=registry,
        )

    def count(
        self, model: str, version: int, kind: str, outcome: str, *, seconds: float | None = None, warned: int = 0
    ) -> None:
        """Count a request that a candidate was given.

        Args:
            model: its name.
            version: the candidate's.
            kind: SHADOW or CANARY.
            outcome: one of the program's own.
            seconds: that the answer took; None without one.
            warned: images with a warning in the answer.
        """
        if (model, version, kind) not in self._known:
            self._known.add((model, version, kind))
            for each in _OUTCOMES:  # from 0 on: a rate needs two samples
                self._calls.labels(model, version, kind, each)
        self._calls.labels(model, version, kind, outcome).inc()
        if seconds is not None:
            self._seconds.labels(model, version, kind).observe(seconds)
            self._warned.labels(model, version, kind).inc(warned)

    def count_agreement(self, model: str, version: int, *, same: int, other: int) -> None:
        """Count the images of a shadow call."""
        self._images.labels(model, version, "same").inc(same)
        self._images.labels(model, version, "other").inc(other)


class TrialGauges(Collector):
    """Shows the trials of the index.

    Args:
        trials: returns them by model.
    """

    def __init__(self, trials: Callable[[], Mapping[str, Trial]]) -> None:
        self._trials = trials

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges as they are now."""
        shares = GaugeMetricFamily(
            "fovea_trial_share", "Share of the requests that a candidate gets, 0 to 1.", labels=_BY_KIND
        )
        stopped = GaugeMetricFamily(
            "fovea_canary_stopped", "1 while a canary stands stopped by its thresholds.", labels=("model", "version")
        )
        for name, trial in self._trials().items():
            for kind in KINDS:
                shares.add_metric((name, str(trial.version), kind), getattr(trial, kind))
            stopped.add_metric((name, str(trial.version)), float(trial.stopped is not None))
        yield from (shares, stopped)
