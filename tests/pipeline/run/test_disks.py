"""Commands on disks that are read-only or full, and on sets that vanish: found early, one line, gone on with."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.data.ingest import ingest
from pipeline.recipe.recipe import load_recipe
from pipeline.run.prepare import input_spec, prepare_images
from tests.helpers.image_sets import color_files, write_files
from tests.helpers.server_process import ROOT
from tests.pipeline.features.test_feature_store import largest_file

SMALL = [
    "model.backbone=LeNet",
    "model.weights=none",
    "train.freeze_backbone=false",
    "train.fine_tune.epochs=0",
    "train.early_stopping=null",
    "cache.memory_gb=0",
]


def command(folder: Path, *arguments: str) -> list[str]:
    return [*arguments, f"--models-dir={folder / 'models'}", f"--runs-dir={folder / 'runs'}"]


@pytest.fixture(name="dataset")
def fixture_dataset(tmp_path: Path) -> Path:
    """A set of coloured squares."""
    return write_files(tmp_path / "colors", color_files(train=8, test=4))


def unwritable(path: Path) -> Path:
    """A place where no folder can be made, for root too: below a file."""
    path.write_text("a file")
    return path


@pytest.mark.parametrize("flag", ["--runs-dir", "--models-dir"])
@pytest.mark.parametrize("verb", ["run", "audit", "import", "imagenet"])
def test_folders_that_cannot_be_written_are_found_before_the_work(
    tmp_path: Path, dataset: Path, verb: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flag, the folder and the reason; nothing is made."""
    if verb in ("import", "imagenet") and flag == "--runs-dir":
        pytest.skip("writes nothing there")
    if verb == "audit" and flag == "--models-dir":
        pytest.skip("writes nothing there")
    place = unwritable(tmp_path / "file")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").touch()
    subject = {"run": [str(dataset)], "audit": [str(dataset)], "import": [str(tmp_path / "saved"), "--name=m"]}
    for below in (place, place / "deeper"):
        before = sorted(tmp_path.rglob("*"))
        arguments = command(tmp_path, verb, *subject.get(verb, []))
        assert 1 == main([*arguments, f"{flag}={below}"])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: {flag}: {below} cannot be written")
        assert "Not a directory" in error
        assert before == sorted(tmp_path.rglob("*"))


def test_output_that_cannot_be_written_is_found_before_scoring(
    tmp_path: Path, tiny_models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """`score` and `evaluate` look at --out first."""
    place = unwritable(tmp_path / "file")
    for verb in ("score", "evaluate"):
        assert 1 == main(command(tmp_path, verb, "nothing", str(tmp_path), f"--out={place / 'out.csv'}"))
        assert "error: --out:" in capsys.readouterr().err


def test_a_disk_that_fills_up_leaves_the_recipe_of_a_run(tmp_path: Path, dataset: Path) -> None:
    """It is written again whenever the run is gone on with; with half of one, the run could not be gone on with."""
    recipe = load_recipe("demo", SMALL)
    folder = tmp_path / "runs/colors/1"
    folder.mkdir(parents=True)
    prepare_images(ingest(dataset), recipe, input_spec(recipe), folder)
    before = (folder / "recipe.yaml").read_bytes()

    with largest_file(100), pytest.raises(OSError, match="File too large"):
        prepare_images(ingest(dataset), recipe, input_spec(recipe), folder)

    assert before == (folder / "recipe.yaml").read_bytes()
    assert [] == list(folder.glob(".*"))


# Whole trainings in processes of their own.
slow = pytest.mark.slow


def mounted(folder: Path, options: str) -> None:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("needs to mount a tmpfs")


@slow
@pytest.mark.parametrize("size", ["160k", "700k", "2m"])
def test_a_full_disk_is_one_line(tmp_path: Path, dataset: Path, size: str) -> None:
    """Without room at the start or later, the command ends with status 1 and names the command that goes on."""
    mounted(tmp_path / "runs", f"size={size}")
    try:
        settings = [f"--set={setting}" for setting in [*SMALL, "train.epochs=3"]]
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command(tmp_path, "run", str(dataset)), *settings],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert 1 == done.returncode, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert "free; make room" in last or "No space left on device" in last
        assert {} == ModelStore(tmp_path / "models").read_index()
    finally:
        subprocess.run(["umount", str(tmp_path / "runs")], check=True)


@slow
def test_a_read_only_disk_is_found_first(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root's permissions do not hide it."""
    mounted(tmp_path / "runs", "ro")
    try:
        for verb in ("run", "audit"):
            assert 1 == main(command(tmp_path, verb, str(dataset)))
            assert "error: --runs-dir:" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", str(tmp_path / "runs")], check=True)


@slow
def test_a_lost_set_names_the_file_and_is_gone_on_with(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The share goes away while training; when it is back, the named command ends the run."""
    settings = [f"--set={setting}" for setting in [*SMALL, "train.epochs=25"]]
    arguments = [sys.executable, "-m", "pipeline", *command(tmp_path, "run", str(dataset)), *settings]
    with subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("runs/colors/*/curves.csv")):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        dataset.rename(tmp_path / "away")
        error = process.communicate(timeout=300)[1]
    assert 1 == process.returncode
    last = error.strip().splitlines()[-1]
    assert "Traceback" not in error
    assert ".png cannot be read any more: No such file or directory" in last
    assert "go on with: python -m pipeline resume colors/" in last

    shutil.move(tmp_path / "away", dataset)
    (run,) = (tmp_path / "runs/colors").iterdir()
    assert 0 == main(command(tmp_path, "resume", f"colors/{run.name}"))
    assert 1 == ModelStore(tmp_path / "models").read_index()["colors"].live
