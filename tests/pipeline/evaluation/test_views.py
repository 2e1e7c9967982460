"""Test-time augmentation: the average itself, what it is measured beside, and where it is not used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.store import CONTRACT_FILE
from pipeline.__main__ import main
from pipeline.augmentation.augment import make_augmentation
from pipeline.errors import RecipeError
from pipeline.evaluation.views import ViewAverage, measure_views
from pipeline.metrics.table import Predictions
from pipeline.recipe.augment_settings import Augment
from pipeline.recipe.recipe import load_recipe
from tests.helpers.image_sets import color_files, write_files

FLIPS = Augment(rotation_range=0, width_shift_range=0, height_shift_range=0, horizontal_flip=True)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


def brightness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Two classes by the mean of the left half: a mirrored image is another one."""
    share = images[:, :, : images.shape[2] // 2].mean(axis=(1, 2, 3)) / 255
    return np.stack([share, 1 - share], axis=1).astype(np.float32)


@pytest.mark.parametrize("settings", [FLIPS, Augment(), Augment(engine="keras"), Augment(brightness_range=(0.5, 1.5))])
@pytest.mark.parametrize("count", [2, 5])
def test_is_the_mean_over_the_image_and_its_views(settings: Augment, count: int) -> None:
    """The views are those of the augmentation's first epochs after 0, in whole grey levels; the plain ones are kept."""
    seen: list[NDArray[np.uint8]] = []

    def score(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert np.uint8 == images.dtype
        seen.append(images)
        return brightness(images)

    plain, averaged = ViewAverage(settings, 3, count)(score, IMAGES)

    assert np.array_equal(brightness(IMAGES), plain)
    assert count == len(seen) and np.array_equal(IMAGES, seen[0])
    assert np.allclose(np.mean([brightness(views) for views in seen], axis=0), averaged, atol=1e-6)
    assert np.allclose(1, averaged.sum(axis=1))
    again = ViewAverage(settings, 3, count)(brightness, IMAGES)[1]
    alone = np.concatenate([ViewAverage(settings, 3, count)(brightness, image[None])[1] for image in IMAGES])
    assert np.array_equal(averaged, again) and np.allclose(averaged, alone, atol=1e-6)
    assert type(make_augmentation(settings, 3)) is not None


def test_the_gain_is_better_minus_worse_and_times_are_per_image() -> None:
    """Accuracy that rises and a log loss that falls are both gains, with paired intervals."""
    views, targets = ViewAverage(FLIPS, 0, 4), np.array([0, 1] * 10)
    views(brightness, IMAGES)
    right = np.eye(2, dtype=np.float32)[targets] * 0.8 + 0.1
    wrong = right.copy()
    wrong[:10] = wrong[:10, ::-1]

    document = measure_views(views, Predictions(wrong, targets), Predictions(right, targets), list("abcdefghij" * 2))

    assert 10 == document["changed_class"] and 4 == document["views"] and 20 == document["images"]
    accuracy, loss = document["metrics"]["accuracy"], document["metrics"]["log_loss"]
    assert (0.5, 1.0, 0.5) == (accuracy["plain"], accuracy["averaged"], accuracy["gain"])
    assert loss["averaged"] < loss["plain"] and loss["gain"] > 0
    assert accuracy["plain_interval"] is not None and accuracy["gain_interval"] is not None
    assert 0 <= document["milliseconds"]["plain"] <= document["milliseconds"]["averaged"]


def test_a_recipe_whose_views_are_all_the_same_is_refused() -> None:
    """The key and what to do are named."""
    with pytest.raises(RecipeError, match=r"evaluate\.tta is 4 and augment changes no images"):
        load_recipe("lenet", ["evaluate.tta=4"])
    for value in ("1", "65"):
        with pytest.raises(RecipeError, match=r"evaluate\.tta: Input should be"):
            load_recipe("default", [f"evaluate.tta={value}"])
    assert "tta" not in load_recipe("default").model_dump()["evaluate"]


@contextmanager
def trained_by(work: Path, recipe: dict[str, Any]) -> Iterator[None]:
    """A version whose contract has a recipe."""
    path = work / "models" / "colours" / "1" / CONTRACT_FILE
    before = path.read_text()
    path.chmod(0o644)
    path.write_text(json.dumps({**json.loads(before), "provenance": {"recipe": recipe}}))
    try:
        yield
    finally:
        path.write_text(before)


def evaluate(work: Path, *flags: str) -> int:
    return main(["evaluate", "colours", str(work / "set"), f"--models-dir={work / 'models'}", *flags])


def test_evaluate_measures_it_beside_plain_predictions(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are printed and in the JSON; the other figures are plain ones, the same as without the option."""
    assert 0 == evaluate(work, f"--out={work / 'plain.json'}")
    capsys.readouterr()
    with trained_by(work, {"augment": FLIPS.model_dump(mode="json"), "train": {"seed": 5}}):
        assert 0 == evaluate(work, f"--out={work / 'tta.json'}", "--tta", "3")

    printed = capsys.readouterr().out
    assert re.search(r"of 9 images change their class by it; every other figure, the gate and the service are", printed)
    assert re.search(r"^accuracy +1\.0000 \[.*\] +1\.0000 \[", printed, re.M)
    assert re.search(r"^ms a picture +\d+\.\d+ +\d+\.\d+$", printed, re.M)
    plain, found = (json.loads((work / f"{name}.json").read_text()) for name in ("plain", "tta"))
    assert 3 == found["tta"]["views"]
    assert plain == {key: value for key, value in found.items() if key != "tta"}


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        pytest.param({}, "--tta: expected a version whose contract has the recipe", id="no-recipe"),
        pytest.param({"augment": 7, "train": {"seed": 0}}, "--tta: expected a version whose contract", id="foreign"),
        pytest.param(
            {"augment": {**FLIPS.model_dump(mode="json"), "horizontal_flip": False}, "train": {"seed": 0}},
            "--tta: expected a version that was trained with augmentation",
            id="no-augmentation",
        ),
    ],
)
def test_evaluate_refuses_versions_without_augmentation(
    work: Path, recipe: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option and what is expected are named."""
    with trained_by(work, recipe):
        assert 1 == evaluate(work, "--tta", "3")

    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {reason}")


@pytest.mark.parametrize("count", ["1", "65", "many"])
def test_the_number_of_views_is_bounded(work: Path, count: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong number is wrong use."""
    with pytest.raises(SystemExit):
        evaluate(work, "--tta", count)

    assert f"argument --tta: expected 2 to 64 views. Received: {count}" in capsys.readouterr().err


def test_score_averages_and_says_so(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line and a column name the views; parts of a folder are refused."""
    arguments = ["score", "colours", str(work / "set"), f"--models-dir={work / 'models'}"]
    with trained_by(work, {"augment": FLIPS.model_dump(mode="json"), "train": {"seed": 5}}):
        assert 0 == main([*arguments, f"--out={work / 'scores.csv'}", "--tta", "3"])
        printed = capsys.readouterr().out
        assert 1 == main([*arguments, f"--out={work / 'parts'}", "--tta", "3"])

    assert "averaged over 3 views of each image (test-time augmentation), which the service does not do" in printed
    assert re.search(r"\d of 9 images have another class than by the image alone", printed)
    lines = (work / "scores.csv").read_text().splitlines()
    assert lines[0].endswith(",error,views") and all(line.endswith(",,3") for line in lines[1:])
    assert "--tta: expected FILE.csv in --out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_reports_both_and_is_judged_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Test figures, gate and contract are those of plain predictions; the report has both, and the closing lines."""
    dataset = write_files(tmp_path / "colors", color_files())
    settings = ["model.backbone=ResNet", "model.weights=none", "model.input_size=32", "train.freeze_backbone=false"]
    settings += ["train.fine_tune.epochs=0", "train.epochs=2", "train.batch_size=8"]
    options = [word for setting in settings for word in ("--set", setting)]
    folders = ["--models-dir", str(tmp_path / "models"), "--runs-dir", str(tmp_path / "runs")]

    assert 0 == main(["run", str(dataset), *options, "--tta", "4", *folders])

    printed = capsys.readouterr().out
    assert "the gate and the service are without it" in printed
    (metrics,) = (tmp_path / "runs").rglob("metrics.json")
    found = json.loads(metrics.read_text())
    assert found["test"]["accuracy"] == found["tta"]["metrics"]["accuracy"]["plain"]
    assert found["test"]["log_loss"] == found["tta"]["metrics"]["log_loss"]["plain"]
    assert 4 == found["recipe"]["evaluate"]["tta"] == found["tta"]["views"]
    for report in (metrics.with_name("report.html"), metrics.with_name("report-aggregates.html")):
        text = report.read_text()
        assert "Predictions averaged over 4 views of each test image" in text
        assert "the gate and the served version are without it" in text
