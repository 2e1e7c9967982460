"""Resident memory of a model server by the versions that it has loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.version_memory import BYTES_A_VERSION, TIMES_THE_WEIGHTS, measure_server
from benchmarks.workload.versions import write_version


@pytest.mark.parametrize(
    ("network", "count"),
    [
        ("MnistCNN", 8),
        pytest.param("MobileNetV2", 8, marks=pytest.mark.slow),
        pytest.param("AlexNet", 2, marks=pytest.mark.slow),
        pytest.param("ResNet50", 2, marks=pytest.mark.slow),
    ],
)
def test_a_loaded_version_takes_60_mb_and_little_more_than_twice_its_weights(
    network: str, count: int, tmp_path: Path
) -> None:
    """Versions beyond a small one, when all are available and after each has answered a call."""
    size = write_version(network, tmp_path / network)
    if network != "MnistCNN":
        write_version("MnistCNN", tmp_path / "MnistCNN")
    base = measure_server(tmp_path, network, 0)["resident_mb"]
    loaded = measure_server(tmp_path, network, count)

    limit = (BYTES_A_VERSION + TIMES_THE_WEIGHTS * size["weights"]) / 1e6
    assert (loaded["resident_mb"] - base) / count <= limit
    assert (loaded["resident_mb_after_predict"] - base) / count <= limit
