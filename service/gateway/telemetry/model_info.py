"""The gauge of the versions that answer, read when metrics are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class ModelInfo(Collector):
    """Shows 1 for each version that answers.

    Args:
        read: returns 1 for each (model, version, contract hash).
    """

    def __init__(self, read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauge as it is now."""
        family = GaugeMetricFamily(
            "fovea_model_info", "1 for a version that answers.", labels=("model", "version", "contract")
        )
        for labels, value in self._read().items():
            family.add_metric(labels, value)
        yield family
