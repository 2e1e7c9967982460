"""`python -m benchmarks capacity`: its arithmetic, its command line, and the table on docs/scale.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.capacity.__main__ import main
from benchmarks.capacity.arithmetic import Costs, find_bottleneck, read_costs, size_fleet
from tests.docs.blocks import DOCS
from tests.repository.project import ROOT

COSTS = Costs(
    gateway_ms=4.0, server_ms=30.0, picture_bytes=50_000, tensor_bytes=150_528, precision="float32", machine="a machine"
)


def serving(name: str = "fovea-apart-float32", **cpu_ms: float) -> dict[str, Any]:
    """Return results of a serving run as far as they are read."""
    system = {"concurrency": {"8": {"cpu_ms": cpu_ms}}}
    machine = {"cpu": "A CPU", "cores": 2}
    return {
        "measured": "2026-01-02T03:04:05+00:00",
        "machine": machine,
        "picture_bytes": 40_000,
        "systems": {"fovea-float32": {"failures": ["it did not start"]}, name: system},
    }


def test_fleet_of_a_rate() -> None:
    """Cores are rate times CPU time; pods have room for the share that may be busy."""
    fleet = size_fleet(COSTS, 1000, use=0.5, gateway_cores=2, server_cores=8)

    assert (4.0, 30.0) == (fleet.gateway_cores, fleet.server_cores)
    assert (4, 8) == (fleet.gateways, fleet.servers)  # 8 / 2 and 60 / 8, rounded up
    assert 4 * 2 + 8 * 8 == fleet.cores
    assert 32.0 == fleet.polls
    assert pytest.approx(1.204224) == fleet.tensor_gbit
    assert pytest.approx(0.4) == fleet.picture_gbit


@pytest.mark.parametrize(
    ("rate", "gateway_ms", "words"),
    [
        pytest.param(100, 4.0, "the model servers' CPU", id="model"),
        pytest.param(100, 40.0, "the gateways' CPU", id="decoding"),
        pytest.param(10_000, 4.0, "status calls", id="polls"),
    ],
)
def test_next_bottleneck(rate: float, gateway_ms: float, words: str) -> None:
    """What costs most, until the number of servers itself does."""
    costs = Costs(gateway_ms, 30.0, 50_000, 150_528, "float32", "a machine")
    fleet = size_fleet(costs, rate, use=0.6, gateway_cores=2, server_cores=8)

    assert find_bottleneck(fleet).startswith(words)


def test_costs_are_those_of_the_results() -> None:
    """At eight requests at a time, with the machine that they come from."""
    costs = read_costs(serving(gateway=4.5, modelserver=70.0), "float32")

    assert costs is not None
    assert (4.5, 70.0, 40_000) == (costs.gateway_ms, costs.server_ms, costs.picture_bytes)
    assert "A CPU, 2 cores, 2026-01-02" == costs.machine


def test_command_reads_results_and_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Precisions that were not measured have no column."""
    (tmp_path / "serving.json").write_text(json.dumps(serving(gateway=5.0, modelserver=60.0)))

    assert 0 == main(["--rate", "120", "--results", str(tmp_path), "--use", "0.5", "--server-cores", "4"])
    printed = capsys.readouterr().out
    assert "| ResNet50 | float32 |\n" in printed
    assert "| model server pods of 4 cores | 4 |" in printed
    assert ["serving.json"] == [path.name for path in tmp_path.iterdir()]


def test_one_process_has_no_costs_of_its_parts(tmp_path: Path) -> None:
    """The message names what has to be measured."""
    (tmp_path / "serving.json").write_text(json.dumps(serving("fovea-float32", server=60.0)))

    with pytest.raises(SystemExit, match=r"expected one of fovea-apart-float32, .* Received: fovea-float32$"):
        main(["--rate", "120", "--results", str(tmp_path)])


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--rate", "inf"],
        ["--rate", "many"],
        ["--rate", "1", "--use", "1.1"],
        ["--rate", "1", "--server-cores", "0"],
        ["--rate", "1", "--gateway-cores", "2.5"],
    ],
)
def test_wrong_flags_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With status 2 and what is expected."""
    with pytest.raises(SystemExit) as caught:
        main(flags)

    assert 2 == caught.value.code
    assert "expected" in capsys.readouterr().err or not flags


@pytest.mark.parametrize("text", [None, "{"])
def test_results_that_cannot_be_read_are_named(text: str | None, tmp_path: Path) -> None:
    """The message says which command measures them."""
    if text is not None:
        (tmp_path / "serving.json").write_text(text)
    with pytest.raises(SystemExit, match=r"--results: .*serving\.json cannot be read.*benchmarks serving"):
        main(["--rate=1", f"--results={tmp_path}"])


def test_page_has_what_the_command_prints() -> None:
    """docs/scale.md: the command of its first block, and its output."""
    command = [sys.executable, "-m", "benchmarks", "capacity", "--rate", "10000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    page = (DOCS / "scale.md").read_text(encoding="utf-8")

    assert "python -m benchmarks capacity --rate 10000\n" in page
    assert done.stdout in page
