"""The metrics of a pool's model servers, read when metrics are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """One model server at this moment.

    Attributes:
        server: its address.
        is_up: whether calls go to it.
        in_flight: images that it works on.
        calls: by outcome, "ok" or the code of the error.
        seconds: all calls together.
        versions: (model, version) that it has AVAILABLE.
    """

    server: str
    is_up: bool
    in_flight: int
    calls: Mapping[str, int]
    seconds: float
    versions: tuple[tuple[str, int], ...]


class ServerInfo(Collector):
    """Shows the model servers of a pool; one that has left the pool is no longer shown.

    Args:
        read: returns the figures of each.
    """

    def __init__(self, read: Callable[[], Iterable[ServerFigures]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        up = GaugeMetricFamily("fovea_model_server_up", "1 while calls go to this model server.", labels=("server",))
        in_flight = GaugeMetricFamily(
            "fovea_model_server_in_flight", "Images that this model server works on.", labels=("server",)
        )
        calls = CounterMetricFamily(
            "fovea_model_server_calls", 'Calls by outcome: "ok" or the error.', labels=("server", "outcome")
        )
        seconds = CounterMetricFamily(
            "fovea_model_server_call_seconds", "Time of all calls of this model server.", labels=("server",)
        )
        versions = GaugeMetricFamily(
            "fovea_model_server_version",
            "1 for a version that this model server has loaded.",
            labels=("server", "model", "version"),
        )
        for figures in self._read():
            up.add_metric((figures.server,), figures.is_up)
            in_flight.add_metric((figures.server,), figures.in_flight)
            seconds.add_metric((figures.server,), figures.seconds)
            for outcome, count in figures.calls.items():
                calls.add_metric((figures.server, outcome), count)
            for model, version in figures.versions:
                versions.add_metric((figures.server, model, str(version)), 1)
        yield from (up, in_flight, calls, seconds, versions)
