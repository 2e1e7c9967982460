"""pipeline/publishing/prune.py: what nobody needs any more goes; what serves, and what keeps splits honest, stays."""

import os
import time
from pathlib import Path

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.publishing.prune import UNFINISHED_S
from tests.helpers.tiny_model import MODEL_NAME
from tests.helpers.versions import ColorSet, publish_trained


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path, tiny_models: dict[str, Path]) -> Path:
    """Five versions, 4 previous and 5 live, each with its run; a feature cache of 1000 bytes."""
    images = ColorSet(tmp_path / "set")
    images.add("train", 1)
    images.add("test", 1)
    store = ModelStore(tmp_path / "models")
    for i in range(1, 6):
        run = f"2026010{i}T000000Z-aaaaaa"
        publish_trained(store, tmp_path / "runs", tiny_models["plain"], images, run=run)
        (tmp_path / "runs" / MODEL_NAME / run / "checkpoints").mkdir()
        (tmp_path / "runs" / MODEL_NAME / run / "checkpoints/last").write_bytes(b"0" * 100)
    (tmp_path / "runs/.cache/features").mkdir(parents=True)
    (tmp_path / "runs/.cache/features/x").write_bytes(b"0" * 1000)
    return tmp_path


def prune(place: Path, *flags: str) -> int:
    return main(["prune", f"--models-dir={place / 'models'}", f"--runs-dir={place / 'runs'}", *flags])


def run_of(place: Path, version: int) -> Path:
    return place / "runs" / MODEL_NAME / f"2026010{version}T000000Z-aaaaaa"


def everything(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for part in ("models", "runs") for path in (place / part).rglob("*"))


def test_old_versions_and_their_runs_go(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--keep 1 keeps the newest idle version beside those with a role, and the runs of all that stay."""
    assert 0 == prune(place, "--keep=1")

    store = ModelStore(place / "models")
    assert (3, 4, 5) == store.read_versions(MODEL_NAME)
    assert ["manifest.csv"] == [path.name for path in run_of(place, 1).iterdir()]
    assert (run_of(place, 3) / "checkpoints/last").is_file()
    assert not (place / "runs/.cache").exists()
    output = capsys.readouterr().out
    assert "version colours/1: " in output
    assert "cache .cache: 1.0 kB" in output


def test_roles_are_never_pruned(place: Path) -> None:
    """Live, previous and candidate stay even with --keep 0, whatever their age; numbers do not come back."""
    store = ModelStore(place / "models")
    with store.staging() as directory:
        (directory / "saved_model.pb").write_bytes(b"")
        store.publish(MODEL_NAME, directory, live=False)
    store.rollback(MODEL_NAME)

    assert 0 == prune(place, "--keep=0")

    assert (4, 5, 6) == store.read_versions(MODEL_NAME)
    with store.staging() as directory:
        assert 7 == store.publish(MODEL_NAME, directory)


def test_dry_run_deletes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what would go, and that is what then goes."""
    before = everything(place)

    assert 0 == prune(place, "--keep=0", "--dry-run")
    said = capsys.readouterr().out
    assert before == everything(place)

    assert 0 == prune(place, "--keep=0")
    assert said.replace("would be deleted", "deleted") == capsys.readouterr().out


def test_pruning_twice_finds_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left of a run is no reason to prune it again."""
    prune(place, "--keep=1")
    capsys.readouterr()

    assert 0 == prune(place, "--keep=1")

    assert "deleted: 0, 0 bytes\n" == capsys.readouterr().out


def test_unfinished_runs_wait_a_week(place: Path) -> None:
    """A run that is going on, or may be resumed, is kept until nothing was written to it for a week."""
    run = place / "runs" / MODEL_NAME / "20250101T000000Z-bbbbbb"
    run.mkdir()
    (run / "best.weights.h5").write_bytes(b"0")

    prune(place, "--keep=0")
    assert (run / "best.weights.h5").is_file()

    long_ago = time.time() - UNFINISHED_S - 60
    for path in (run / "best.weights.h5", run):
        os.utime(path, (long_ago, long_ago))
    prune(place, "--keep=0")
    assert not run.exists()


def test_an_empty_place_has_nothing_to_prune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither store nor runs need exist."""
    assert 0 == prune(tmp_path, "--keep=3")
    assert "deleted: 0, 0 bytes\n" == capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--keep=-1"], ["--keep=all"]], ids=["missing", "negative", "word"])
def test_keep_must_be_said(tmp_path: Path, flags: list[str]) -> None:
    """Deleting has no default."""
    with pytest.raises(SystemExit) as caught:
        prune(tmp_path, *flags)
    assert 2 == caught.value.code
