"""The benchmark of the lectures' recipes: its set, its arithmetic and a training in turns."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.lectures import FIGURES, interval, parse, run, summarize
from benchmarks.report.lectures_page import lectures_section
from benchmarks.training.sets import read_idx, write_fashion
from pipeline.recipe.recipe import load_recipe
from tests.helpers.image_sets import write_files
from tests.pipeline.training.test_digits import digit_files


def write_idx(path: Path, array: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture(name="idx")
def fixture_idx(tmp_path: Path) -> Path:
    """A package of 20 training and 10 test pictures."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 20), ("t10k", 10)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def test_fashion_is_written_as_it_is(idx: Path, tmp_path: Path) -> None:
    """Every picture is a PNG file of its class; a complete folder is not written again."""
    folder = write_fashion(tmp_path / "cache", idx)
    images = read_idx(idx / "train-images-idx3-ubyte.gz")

    assert (20, 10) == (len(list(folder.glob("train/*/*.png"))), len(list(folder.glob("test/*/*.png"))))
    assert (images[11] == np.asarray(Image.open(folder / "train/Trouser/00011.png"))).all()
    assert folder == write_fashion(tmp_path / "cache", tmp_path / "absent")


def test_missing_package_is_named(tmp_path: Path) -> None:
    """The command that installs it is in the message."""
    with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
        write_fashion(tmp_path / "cache", tmp_path / "absent")


def test_every_recipe_is_shipped() -> None:
    """The six of the table can be loaded."""
    assert 6 == len([load_recipe(name) for name in FIGURES])


def test_interval_is_students() -> None:
    """Three values: 4.303 standard errors."""
    assert {"mean": 0.9, "low": 0.8752, "high": 0.9248} == interval([0.89, 0.9, 0.91])
    assert {"mean": 0.9, "low": None, "high": None} == interval([0.9])


def test_ratio_is_of_turns_after_the_first() -> None:
    """First epochs trace graphs; the median of the other turns counts."""

    def side(*seconds: float) -> dict[str, Any]:
        return {"accuracy": 0.9, "epochs": [{"seconds": s, "cpu_s": 2 * s} for s in seconds]}

    found = summarize([{"fovea": side(9, 1, 3), "keras": side(1, 2, 2), "load": [1.0, 3.0]}], ("a", 0.95), "b")

    assert (1.0, [0.5, 1.5], 2.0, None) == (
        found["ratio"],
        found["ratios"],
        found["fovea"]["epoch_s"],
        found["lecture"],
    )
    run = {"set": "b", "images": 60_000, "epochs": 3, "recipes": {"lenet": {**found, "quiet": True}}}
    page = lectures_section({"measured": "2026-01-01T00:00:00+00:00", "wanted_ratio": 1.15, "runs": [run]})
    assert "| lenet | b | 60,000 | 3 | 1 | 0.9000 | 0.9000 | 0.0000 | – | 2.0 | 2.0 | 1.00 | 1.00 |" in page


@pytest.mark.parametrize(
    "option", ["--epochs=0", "--seeds=-1", "--images=x", "--mnist=absent", "--cifar10=", "--epoch=3"]
)
def test_wrong_option_is_refused_before_anything_is_trained(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is missing would be found after hours."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        parse([option])
    assert option.partition("=")[0] in capsys.readouterr().err


@pytest.mark.slow
def test_both_sides_learn_in_turns(tmp_path: Path) -> None:
    """Plain Keras and Fovea learn digits alike; what is finished is not trained again."""
    digits = write_files(tmp_path / "cache/fashion-mnist", digit_files())
    options = parse(["--epochs=6", "--seeds=1", "--recipes", "lenet", f"--cache={tmp_path / 'cache'}", "--print-only"])
    assert options.pop("print_only")

    result = run(**options)

    (made,) = result["runs"]
    assert (digits.name, 60_000, 6) == (made["set"], made["images"], made["epochs"])
    found = made["recipes"]["lenet"]
    assert min(found[side]["accuracy"]["mean"] for side in ("fovea", "keras")) > 0.85
    assert found["ratio"] > 0
    assert result == run(**options)
