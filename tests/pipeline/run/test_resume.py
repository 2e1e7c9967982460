"""Stopped runs: killed for real, gone on with in a fresh process, refused when something has changed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.run_folder import RUN_FILE
from tests.helpers.image_sets import color_files, png, write_files
from tests.helpers.server_process import ROOT

RECIPE = [
    "data.group=^(.*)_",
    "model.backbone=ResNet",
    "model.weights=none",
    "model.input_size=32",
    "model.dropout=0.3",
    "train.epochs=3",
    "train.batch_size=8",
    "train.schedule=cosine",
    "train.freeze_backbone=false",
    "train.fine_tune.epochs=2",
]


def options(folder: Path) -> list[str]:
    return [f"--models-dir={folder / 'models'}", f"--runs-dir={folder / 'runs'}"]


def start(folder: Path, dataset: Path) -> subprocess.Popen[str]:
    """`run` in a process of its own."""
    command = [sys.executable, "-m", "pipeline", "run", str(dataset), "--recipe=demo", *options(folder)]
    return subprocess.Popen(
        [*command, *(f"--set={setting}" for setting in RECIPE)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_after(process: subprocess.Popen[str], folder: Path, epochs: int, signal_number: int) -> str:
    """Send a signal as soon as so many epochs stand in curves.csv; return what the process wrote to stderr."""
    deadline = time.monotonic() + 300
    while sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("runs/*/*/curves.csv")) < epochs:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    os.kill(process.pid, signal_number)
    return process.communicate(timeout=60)[1]


def predictions(folder: Path) -> list[dict[str, str]]:
    """Every digit of every test probability, of the only run that has ended."""
    (path,) = [path.parent / "predictions.csv" for path in folder.glob("runs/*/*/metrics.json")]
    with path.open() as file:
        return list(csv.DictReader(file))


def wrong_labels(folder: Path) -> bytes:
    """The list of likely wrong labels of the only run that has ended."""
    (path,) = [path.parent / "wrong_labels.csv" for path in folder.glob("runs/*/*/metrics.json")]
    return path.read_bytes()


# Whole runs in fresh processes, killed and repeated: minutes.
pytestmark = pytest.mark.slow


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of coloured squares."""
    return write_files(tmp_path_factory.mktemp("set") / "colors", color_files(train=8, test=4))


@pytest.fixture(name="whole", scope="module")
def fixture_whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbs, in a process of its own."""
    folder = tmp_path_factory.mktemp("whole")
    with start(folder, dataset) as process:
        error = process.communicate(timeout=300)[1]
    assert 0 == process.returncode, error
    return folder


@pytest.fixture(name="killed", scope="module")
def fixture_killed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, killed with kill -9 in its third epoch."""
    folder = tmp_path_factory.mktemp("killed")
    with start(folder, dataset) as process:
        stop_after(process, folder, 2, signal.SIGKILL)
    assert -signal.SIGKILL == process.returncode
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(["--set=train.epochs=9"], "train.epochs was 3, is 9", id="recipe"),
        pytest.param(["--resume=20260101T000000Z-abcdef"], "expected latest or one of", id="unknown-run"),
        pytest.param(["--name=other"], "no run of 'other'", id="unknown-name"),
    ],
)
def test_changed_run_is_refused(
    dataset: Path, killed: Path, change: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another recipe or an unknown run is refused with the reason; the stopped run stays as it is."""
    recipe = ["--recipe=demo", *(f"--set={setting}" for setting in RECIPE)] if "--set" in change[0] else []

    assert 1 == main(["run", str(dataset), "--resume=latest", *recipe, *change, *options(killed)])

    assert words in capsys.readouterr().err.splitlines()[-1]


def test_changed_images_are_refused(dataset: Path, killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One more picture is another set: the run would no longer be what its manifest says."""
    extra = dataset / "train/red/R999_0.png"
    extra.write_bytes(png((220, 30, 30), seed=4711))
    try:
        assert 1 == main(["resume", "colors", *options(killed)])
    finally:
        extra.unlink()

    error = capsys.readouterr().err.splitlines()[-1]
    assert "the images have changed since" in error
    assert "1 are new or different, such as train/red/R999_0.png" in error


def test_killed_and_resumed_run_gives_the_same_probabilities(
    whole: Path, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last digit, in fresh processes; every epoch is there once, and nothing is published twice."""
    command = [sys.executable, "-m", "pipeline", "resume", "colors", *options(killed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert 0 == done.returncode, done.stderr
    assert predictions(whole) == predictions(killed)
    assert wrong_labels(whole) == wrong_labels(killed)
    (folder,) = killed.glob("runs/colors/*")
    with (folder / "curves.csv").open() as file:
        stages = [row["stage"] for row in csv.DictReader(file)]
    assert ["network"] * 3 + ["fine-tune"] * 2 == stages
    assert not (folder / "checkpoints").exists()
    assert 1 == ModelStore(killed / "models").read_index()["colors"].live

    assert 1 == main(["resume", "colors", *options(killed)])
    assert "it published colors/1" in capsys.readouterr().err.splitlines()[-1]


def test_run_that_is_going_on_is_not_joined(killed: Path, tmp_path: Path) -> None:
    """A folder that another process holds is refused."""
    from pipeline.errors import ResumeError
    from pipeline.run_folder import claimed

    with claimed(tmp_path), pytest.raises(ResumeError, match="still going on"), claimed(tmp_path):
        pytest.fail("two runs hold one folder")


def test_run_without_its_record_is_refused(killed: Path, tmp_path: Path) -> None:
    """A damaged record says to start anew."""
    from pipeline.errors import ResumeError
    from pipeline.run.resume import read_record

    (tmp_path / RUN_FILE).write_text(json.dumps({"format": 1}))

    with pytest.raises(ResumeError, match="Start it anew"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "moment", ["run.json", "audit.json", "curves.csv", "model.keras", "predictions.csv", "wrong_labels.csv"]
)
def test_every_stage_can_be_interrupted(dataset: Path, whole: Path, tmp_path: Path, moment: str) -> None:
    """Ctrl-C says how to go on; going on ends with the same probabilities, wherever it was."""
    with start(tmp_path, dataset) as process:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob(f"runs/colors/*/{moment}")):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert 1 == process.returncode
    assert "To go on with this run: python -m pipeline resume colors/" in error

    assert 0 == main(["resume", "colors", *options(tmp_path)])
    assert predictions(whole) == predictions(tmp_path)
    assert wrong_labels(whole) == wrong_labels(tmp_path)
