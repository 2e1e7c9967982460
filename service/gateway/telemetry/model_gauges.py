"""Gauges of the served versions and of the store, computed when metrics are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.model import ModelContract

_BY_VERSION = ("model", "version")


class VersionGauges(Collector):
    """Shows the versions that answer and what each answered on its test images, the baseline of drift.

    Args:
        contracts: returns the contracts of the loaded versions, by model and version.
        live: returns the live version of each model.
        precisions: returns the precisions that versions answer at, by model and version.
    """

    def __init__(
        self,
        contracts: Callable[[], Mapping[tuple[str, int], ModelContract]],
        live: Callable[[], Mapping[str, int]],
        precisions: Callable[[], Mapping[tuple[str, int], str]] = dict,
    ) -> None:
        self._contracts = contracts
        self._live = live
        self._precisions = precisions

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges as they are now."""
        info = GaugeMetricFamily("fovea_model_info", "1 for a version that answers.", labels=(*_BY_VERSION, "contract"))
        precision = GaugeMetricFamily(
            "fovea_model_precision",
            "1 for the precision that a version last predicted at.",
            labels=(*_BY_VERSION, "precision"),
        )
        precisions = self._precisions()
        shares = GaugeMetricFamily(
            "fovea_baseline_class_share",
            "Share of the test images in which a class was most probable, 0 to 1.",
            labels=(*_BY_VERSION, "label"),
        )
        confidence = GaugeMetricFamily(
            "fovea_baseline_confidence",
            "Mean probability of the most probable class on the test images.",
            labels=_BY_VERSION,
        )
        warnings = GaugeMetricFamily(
            "fovea_baseline_warning_share",
            "Share of the test images with a warning, 0 to 1.",
            labels=(*_BY_VERSION, "warning"),
        )
        for (name, number), contract in self._contracts().items():
            version = (name, str(number))
            info.add_metric((*version, contract.sha256), 1)
            if (name, number) in precisions:
                precision.add_metric((*version, precisions[name, number]), 1)
            baseline = contract.drift_baseline
            if baseline is None:  # an imported model
                continue
            confidence.add_metric(version, baseline.mean_probability)
            for label, share in baseline.class_shares.items():
                shares.add_metric((*version, label), share)
            for warning, share in baseline.warning_shares.items():
                warnings.add_metric((*version, warning), share)
        live = GaugeMetricFamily("fovea_live_version", "Number of the live version.", labels=("model",))
        for name, number in self._live().items():
            live.add_metric((name,), number)
        yield from (info, precision, live, shares, confidence, warnings)


class StoreGauges(Collector):
    """Shows the space of the file system that holds the store.

    Args:
        folder: the store's root.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges as they are now; without samples while the folder cannot be read."""
        free = GaugeMetricFamily("fovea_store_free_bytes", "Free space on the disk of the model store.")
        size = GaugeMetricFamily("fovea_store_size_bytes", "Size of the disk of the model store.")
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return
        free.add_metric((), disk.f_bavail * disk.f_frsize)
        size.add_metric((), disk.f_blocks * disk.f_frsize)
        yield from (free, size)
