"""Wrong labels in a whole run: planted ones are in the CSV, the report, metrics.json and the closing lines."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import pipeline.run.wrong_label_search
from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.commands.run import print_result
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import RunResult, run
from tests.helpers.image_sets import color_files, write_files
from tests.pipeline.run.test_run import QUICK

# Where an image lies, and where it belongs.
SWAPPED = {
    "train/red/Gr000_0.png": "green",
    "train/blue/Rr003_1.png": "red",
    "train/green/Br005_0.png": "blue",
    "test/blue/Re001_0.png": "red",
}


def swap(files: dict[str, bytes]) -> dict[str, bytes]:
    """Move the swapped pictures from their own folder to the wrong one."""
    changed = dict(files)
    for path, label in SWAPPED.items():
        split, _, name = path.split("/")
        changed[path] = changed.pop(f"{split}/{label}/{name}")
    return changed


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "wrong_labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(folder: Path, files: dict[str, bytes], settings: Sequence[str] = ()) -> RunResult:
    recipe = load_recipe("demo", [*QUICK, "train.epochs=8", "train.fine_tune.epochs=0", *settings])
    store = ModelStore(folder / "models")
    return run(write_files(folder / "set", files), recipe, store, name="colors", runs_dir=folder / "runs")


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swapped")


@pytest.fixture(name="swapped", scope="module")
def fixture_swapped(work: Path) -> RunResult:
    """A run on coloured squares of which three of 48, and one of the test squares, lie in a wrong folder."""
    return train(work, swap(color_files(train=16)))


def test_swapped_labels_are_listed_with_their_right_ones(swapped: RunResult) -> None:
    """The CSV has the planted ones alone, those of the test split last; the count is in metrics.json."""
    rows = read_rows(swapped.folder)

    assert SWAPPED == {row["path"]: row["suggested"] for row in rows}
    assert all(row["label"] == row["path"].split("/")[1] for row in rows)
    assert "test" == rows[-1]["split"]
    assert all(float(row["score"]) < 0.5 for row in rows)
    found = json.loads((swapped.folder / "metrics.json").read_text())["wrong_labels"]
    assert (3, 48, 1, 12) == tuple(found[key] for key in ("likely_wrong", "images", "test_likely_wrong", "test_images"))
    assert ("the trained network's embedding", 8) == (found["embeddings"], found["views"])


def test_the_count_is_in_the_closing_lines(swapped: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    """As a warning among those repeated at the end, and as a line of its own."""
    print_result(swapped)

    lines = capsys.readouterr().out.splitlines()
    text = "3 of 48 training and validation images and 1 of 12 test images may be labelled wrong"
    assert f"warning: {text}; see wrong_labels.csv and report.html." in lines
    assert f"labels: {text}" in lines


def test_report_command_says_the_count(swapped: RunResult, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr: stdout is the path alone."""
    from fovea.cli import main as fovea

    folders = [f"--models-dir={work / 'models'}", f"--runs-dir={work / 'runs'}"]
    assert 0 == fovea(["report", "colors/1", *folders])

    output = capsys.readouterr()
    assert [str(swapped.folder / "report.html")] == output.out.splitlines()
    assert "labels: 3 of 48 training and validation images and 1 of 12" in output.err


def test_the_report_shows_them_and_the_models_copy_does_not(swapped: RunResult) -> None:
    """Pictures and names are in the run's folder only; the count is in both."""
    own = (swapped.folder / "report.html").read_text()
    copy = (swapped.directory / "assets.extra/report.html").read_text()

    for html in (own, copy):
        assert "3 of 48 training and validation images, and 1 of 12 test images, may be labelled wrong" in html
    section = own[own.index(">Likely wrong labels</h2>") : own.index(">Training</h2>")]
    assert 4 == section.count("data:image/jpeg")
    for path in SWAPPED:
        assert path in section
        assert path not in copy


def test_features_of_a_frozen_backbone_are_reused(tmp_path: Path, swapped: RunResult) -> None:
    """Where the backbone never trains, the kept features are what is looked at, and the planted labels are found."""
    weights = f"model.weights={swapped.folder / 'model.keras'}"
    frozen = [weights, "train.freeze_backbone=true", "train.epochs=1"]

    result = train(tmp_path, swap(color_files(train=16)), frozen)

    assert result.wrong_labels is not None
    document = result.wrong_labels.document()
    assert ("kept features of the frozen backbone", 4) == (document["embeddings"], document["views"])
    assert SWAPPED == {row["path"]: row["suggested"] for row in read_rows(result.folder)}


def test_a_network_of_dense_layers_is_searched(tmp_path: Path) -> None:
    """Without feature maps and without augmentation: its flat features, in one view."""
    own = [
        "model.layers=[Flatten, {Dense: {units: 32, activation: relu}}]",
        "model.backbone=layers",
    ]
    still = ["augment.rotation_range=0", "augment.width_shift_range=0", "augment.height_shift_range=0"]

    result = train(tmp_path, swap(color_files(train=16)), [*own, *still, "augment.horizontal_flip=false"])

    assert result.wrong_labels is not None
    document = result.wrong_labels.document()
    assert (48, 1) == (document["images"], document["views"])


def test_a_failed_search_does_not_lose_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version is published, and the closing lines say that labels were not looked at, and why."""

    def fail(*_: Any) -> None:
        raise MemoryError("no room for embeddings")

    monkeypatch.setattr(pipeline.run.wrong_label_search, "find_label_errors", fail)
    write_files(tmp_path / "set", color_files(train=6))
    folders = [f"--models-dir={tmp_path / 'models'}", f"--runs-dir={tmp_path / 'runs'}"]
    settings = [f"--set={setting}" for setting in [*QUICK, "train.epochs=1", "train.fine_tune.epochs=0"]]

    assert 0 == main(["run", str(tmp_path / "set"), "--name=colors", "--recipe=demo", *folders, *settings])

    lines = capsys.readouterr().out.splitlines()
    assert "warning: Wrong labels were not looked for: MemoryError: no room for embeddings" in lines
    (folder,) = (tmp_path / "runs" / "colors").iterdir()
    assert json.loads((folder / "metrics.json").read_text())["wrong_labels"] is None
    assert not (folder / "wrong_labels.csv").exists()
    assert "The search failed" in (folder / "report.html").read_text()
