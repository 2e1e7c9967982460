"""The machine's limit, measured on a real, tiny network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine_limit.search import FINAL_TURNS, choose_setting, search_settings
from tests.helpers.pictures import encode
from tests.repository.project import ROOT

SIDE = 16  # of the tiny network's input, pixels
TIMEOUT_S = 300


@pytest.fixture
def network(tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    """The tiny network as OpenVINO's tools read it."""
    target = tmp_path / "network.xml"
    command = [sys.executable, "-m", "benchmarks.machine_limit", str(tiny_models["plain"]), str(target)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=TIMEOUT_S, capture_output=True)
    return target


def test_raw_inference_and_decoding_are_measured(network: Path, tmp_path: Path) -> None:
    """CPU times and rates are positive, and the CPU that is told fits into the time that passed."""
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(encode("red", "JPEG", size=64))
    setting = {"model": str(network), "picture": str(picture), "side": SIDE}
    setting |= {"precision": "float32", "streams": 1, "batch": 4}
    asked = [setting, {"part": "full", "seconds": 0.4}, {"part": "alone", "seconds": 0.1}]
    command = [sys.executable, "-m", "benchmarks.machine_limit"]
    text = "".join(json.dumps(line) + "\n" for line in asked)
    done = subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert 0 == done.returncode, done.stderr
    _, full, alone = (json.loads(line) for line in done.stdout.splitlines())
    assert full["images_per_s"] > 0
    assert full["inference_cpu_ms"] > 0
    assert full["decode_cpu_ms"] > 0
    assert alone["engine_ms"] > 0
    assert alone["decode_ms"] > 0


def test_the_median_of_the_finalists_decides() -> None:
    """One lucky minute makes a setting the fastest of its streams, and no more than that."""
    asked: list[tuple[int, int]] = []

    def rate(streams: int, batch: int) -> float:
        asked.append((streams, batch))
        is_lucky = (streams, batch) == (1, 8) and asked.count((1, 8)) in (2, 4)
        return 100.0 if is_lucky else 10.0 * streams + batch

    found = choose_setting(rate, [1, 2])
    assert 8 == len(found["settings"])
    assert {"streams": 1, "batch": 8, "images_per_s": 100.0} in found["settings"]
    assert [
        {"streams": 1, "batch": 8, "images_per_s": 18.0},
        {"streams": 2, "batch": 16, "images_per_s": 36.0},
    ] == found["finalists"]
    assert found["best"] == found["finalists"][1]
    assert [(1, 8), (2, 16)] * FINAL_TURNS == asked[-2 * FINAL_TURNS :]


@pytest.mark.slow
def test_the_best_setting_is_one_that_was_tried(network: Path) -> None:
    """benchmark_app runs at every setting, and its rates are read."""
    found = search_settings(network, "float32", side=SIDE, seconds=1)
    assert all(setting["images_per_s"] > 0 for setting in found["settings"])
    assert found["best"] == max(found["finalists"], key=lambda setting: setting["images_per_s"])
