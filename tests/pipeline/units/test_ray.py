"""`--executor ray` on real clusters: the parts of a local run, whoever dies, and no cluster without a token."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.features.features import FeatureExtractor
from pipeline.run.run import RunResult
from tests.helpers.image_sets import COLORS, png, write_files
from tests.helpers.ray_nodes import RayNodes, ray_nodes
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import publish_variant
from tests.pipeline.run.test_feature_units import features, fixture_first, recipe_file, train
from tests.pipeline.run.test_reruns import small

__all__ = ["fixture_first"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="ray is not installed: pip install -r requirements-ray.lock",
    ),
]
WAIT_S = 300


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """A cluster of two nodes with a CPU each, for tests that leave it as it is."""
    with ray_nodes(tmp_path_factory.mktemp("ray") / "log", 1, 1) as running:
        yield running


def write_pictures(folder: Path, count: int) -> Path:
    """Small pictures of three colours in three folders, and one that cannot be decoded."""
    colors = list(COLORS.items())
    files = {f"{i % 3}/{colors[i % 3][0]}-{i:05}.png": png(colors[i % 3][1], seed=i, size=24) for i in range(count - 1)}
    return write_files(folder, {**files, "bad/cut.png": png(size=64)[:-300]})


def start(
    store: ModelStore, images: Path, out: Path, *options: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start `score`."""
    arguments = ["score", "colours", str(images), f"--out={out}", f"--models-dir={store.root}", *options]
    return start_command(arguments, environment)


def start_command(arguments: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command of the pipeline."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        env=environment or dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: object, **options: object) -> tuple[int, str, str]:
    """Run the command to its end; its status, stdout and stderr."""
    process = start(*arguments, **options)  # type: ignore[arg-type]
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def run_command(arguments: list[str], nodes: RayNodes) -> str:
    """Run a command of the pipeline by two workers; its stdout."""
    process = start_command([*arguments, *on(nodes)], nodes.environment)
    out, err = process.communicate(timeout=WAIT_S)
    assert 0 == process.returncode, err
    return out


def score_here(store: ModelStore, images: Path, out: Path, *options: str) -> None:
    """Run the command in this process, without Ray."""
    assert 0 == main(["score", "colours", str(images), f"--out={out}", f"--models-dir={store.root}", *options])


def on(nodes: RayNodes, workers: int = 2) -> list[str]:
    return ["--executor=ray", f"--address={nodes.address}", f"--workers={workers}"]


def hashes(out: Path) -> dict[str, str]:
    """The content of every part and of the CSV; nothing else but the plan is there."""
    assert {"_plan.json"} == {p.name for p in out.iterdir() if not p.name.startswith("part-") and p.suffix != ".csv"}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def workers_below(pid: int) -> list[psutil.Process]:
    """The actors of a raylet."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            if child.cmdline()[0].startswith("ray::Worker"):
                found.append(child)
        except (psutil.NoSuchProcess, IndexError):
            pass
    return found


def test_two_workers_make_what_one_process_makes(store: ModelStore, tmp_path: Path, nodes: RayNodes) -> None:
    """5,000 pictures, byte by byte; a cluster that the command starts makes the same, and a rerun does nothing."""
    images = write_pictures(tmp_path / "images", 5000)
    assert 0 == main(
        [
            "score",
            "colours",
            str(images),
            f"--out={tmp_path / 'local'}",
            f"--models-dir={store.root}",
            "--unit-rows=100",
        ]
    )

    given = run(store, images, tmp_path / "given", "--unit-rows=100", *on(nodes), environment=nodes.environment)
    own = run(store, images, tmp_path / "own", "--unit-rows=100", "--executor=ray", "--workers=2")
    again = run(store, images, tmp_path / "own", "--unit-rows=100", "--executor=ray")

    assert (0, 0, 0) == (given[0], own[0], again[0]), (given, own, again)
    assert 52 == len(hashes(tmp_path / "local"))
    assert hashes(tmp_path / "local") == hashes(tmp_path / "given") == hashes(tmp_path / "own")
    assert "units: 50 scored by colours/1 at float32, 0 were there" in own[1]
    assert "units: 0 scored by colours/1 at float32, 50 were there" in again[1]


def test_kills_lose_only_units_under_way(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """An actor, then a raylet, then the driver are killed: no part is made twice, and the rerun makes the rest."""
    store = ModelStore(tmp_path / "models")
    publish_variant(store, tiny_models["slow"])
    images, out = write_pictures(tmp_path / "images", 600), tmp_path / "out"
    options = ["--unit-rows=20"]

    def parts() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}

    with ray_nodes(tmp_path / "log", 1, 1) as nodes:
        driver = start(store, images, out, *options, *on(nodes), environment=nodes.environment)
        wait_for(lambda: len(parts()) >= 2 and all(workers_below(pid) for pid in nodes.raylets), driver)
        workers_below(nodes.raylets[1])[0].kill()
        seen = parts()
        wait_for(lambda: len(parts()) >= len(seen) + 3, driver)
        os.kill(nodes.raylets[1], signal.SIGKILL)
        seen |= parts()
        wait_for(lambda: len(parts()) >= len(seen) + 3, driver)
        driver.kill()
        driver.communicate(timeout=WAIT_S)
        wait_for(lambda: not workers_below(nodes.raylets[0]))
        seen |= parts()
        assert len(seen) < 30

        status, told, err = run(store, images, out, *options, *on(nodes, 1), environment=nodes.environment)
    assert (0, f"units: {30 - len(seen)} scored by colours/1 at float32, {len(seen)} were there") == (
        status,
        told.partition(", 0 of")[0],
    ), err
    assert seen == {name: time for name, time in parts().items() if name in seen}
    score_here(store, images, tmp_path / "local", *options)
    assert hashes(tmp_path / "local") == hashes(out)


def test_failing_unit_is_listed(store: ModelStore, tmp_path: Path, nodes: RayNodes) -> None:
    """A part that cannot be written fails three times; the others are there, and exit status is 1."""
    images, out = write_pictures(tmp_path / "images", 60), tmp_path / "out"
    (out / "part-000002.parquet").mkdir(parents=True)

    status, _, err = run(store, images, out, "--unit-rows=10", *on(nodes), environment=nodes.environment)

    assert 1 == status
    assert 2 == err.count("unit 2 is tried again: IsADirectoryError")
    assert "  unit 2: IsADirectoryError" in err
    assert "error: 1 of 6 units failed three times (IsADirectoryError)" in err.splitlines()[-1]
    assert 6 == len(list(out.glob("part-*")))


def test_unit_that_kills_its_workers_is_given_up(tmp_path: Path, nodes: RayNodes) -> None:
    """After three workers; units that waited behind it are made by others."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.dying_task", str(tmp_path), nodes.address],
        cwd=ROOT,
        env=nodes.environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    outcomes = sorted(line.split(" ", 2) for line in done.stdout.splitlines())

    assert [str(unit) for unit in range(6)] == [unit for unit, _, _ in outcomes], done.stderr
    assert ["1", "1", "0", "1", "1", "1"] == [images for _, images, _ in outcomes]
    assert outcomes[2][2].startswith("its worker died: ")
    assert "xxx" == (tmp_path / "tried-2").read_text()


@pytest.mark.parametrize("token", ["", "0" * 64], ids=["none", "wrong"])
def test_cluster_is_not_used_without_its_token(store: ModelStore, tmp_path: Path, nodes: RayNodes, token: str) -> None:
    """The error names what to set."""
    environment = {name: value for name, value in nodes.environment.items() if not name.startswith("RAY_AUTH")}
    if token:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    images = write_pictures(tmp_path / "images", 4)

    status, _, err = run(store, images, tmp_path / "out", *on(nodes), environment=environment)

    assert 1 == status
    assert "cannot be used" in err.splitlines()[-1]
    assert "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here" in err.splitlines()[-1]


def test_worker_that_does_not_see_the_folders_says_so(store: ModelStore, tmp_path: Path, nodes: RayNodes) -> None:
    """A model store that only the driver sees fails at once, with the folder's name."""
    images = write_pictures(tmp_path / "images", 4)
    process = start(store, images, tmp_path / "out", *on(nodes), environment=nodes.environment)
    wait_for(lambda: (tmp_path / "out" / "_plan.json").exists(), process)
    store.version_path("colours", 1).rename(tmp_path / "away")
    _, err = process.communicate(timeout=WAIT_S)

    assert 1 == process.returncode
    assert "no worker could load the task: LostImageError: " in err.splitlines()[-1]
    assert "all processes read and write the same folders" in err.splitlines()[-1]


def test_audits_by_workers_are_local_ones(tmp_path: Path, nodes: RayNodes) -> None:
    """2,000 pictures: the parts of a local audit, byte by byte, and the findings of a plain one."""
    images = write_pictures(tmp_path / "images", 2000)
    common = ["audit", str(images), f"--runs-dir={tmp_path / 'runs'}", "--set=data.on_unreadable=skip"]
    for i in range(2):
        (images / "bad" / f"{i}.png").write_bytes(png(seed=i))
    units = "--unit-rows=100"
    assert "units: 21 measured" in run_command([*common, f"--out={tmp_path / 'ray'}", units], nodes)
    assert 0 == main([*common, f"--out={tmp_path / 'local'}", units])
    parts = [{p.name: p.read_bytes() for p in (tmp_path / kind).iterdir()} for kind in ("ray", "local")]
    assert parts[0] == parts[1]

    main([*common, "--name=merged", f"--out={tmp_path / 'ray'}", "--merge"])
    main([*common, "--name=plain"])
    (merged,), (plain,) = ((tmp_path / "runs" / name).glob("*/audit.json") for name in ("merged", "plain"))
    assert merged.read_bytes() == plain.read_bytes()


def test_features_by_workers_are_local_ones(
    tmp_path: Path, first: RunResult, nodes: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local command afterwards finds all of them in the store."""
    recipe, path = recipe_file(tmp_path, first)
    images = write_files(tmp_path / "set", small())
    assert "units: 8 computed" in run_command(features(images, tmp_path, path), nodes)
    computed: list[Any] = []
    compute = FeatureExtractor._compute_batch
    monkeypatch.setattr(
        FeatureExtractor, "_compute_batch", lambda self, batch: computed.append(batch) or compute(self, batch)
    )
    found = train(images, tmp_path, recipe)
    assert [] == computed
    plain = train(images, tmp_path / "alone", recipe)
    assert (plain.folder / "predictions.csv").read_bytes() == (found.folder / "predictions.csv").read_bytes()
