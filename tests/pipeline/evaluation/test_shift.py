"""pipeline/evaluation/shift.py: test images of another kind are said; an honest split is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from contract.model import InputSpec
from contract.novelty import measure_images
from pipeline.data.ingest import FolderSource
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.evaluation.novelty import FALSE_ALARMS, fit_to_images
from pipeline.evaluation.shift import find_difference, find_unlike


def draw(count: int, seed: int, light: float = 1.0) -> NDArray[np.uint8]:
    """Pictures of a pale disc on orange ground, in a light that varies from one to the next."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    inside = np.hypot(y - rng.normal(0, 0.2, (count, 1, 1)), x) < rng.uniform(0.2, 0.6, (count, 1, 1))
    colors = np.where(inside[..., None], [235.0, 200, 140], [190.0, 95, 40])
    shades = rng.uniform(0.8, 1.05, (count, 1, 1, 1)) * light
    return np.clip(colors * shades + rng.normal(0, 5, colors.shape), 0, 255).astype(np.uint8)


def write(folder: Path, test: NDArray[np.uint8], seed: int = 0) -> tuple[Manifest, Pixels]:
    """Write 80 training, 20 validation and the test images, two to a group."""
    rows = []
    parts = (("train", draw(80, 10 * seed)), ("val", draw(20, 10 * seed + 1)), ("test", test))
    for split, images in parts:
        for i, image in enumerate(images):
            name = f"{split}{i}.png"
            Image.fromarray(image).save(folder / name)
            rows.append(ManifestRow(name, name, "a", f"{split}{i // 2}", split))
    return Manifest(tuple(rows)), Pixels(FolderSource(folder), InputSpec(32, 32))


def test_a_test_set_of_other_colours_is_said_twice(tmp_path: Path) -> None:
    """Far too many pictures are unlike the training images, and a classifier tells the two sides apart."""
    fitted = fit_to_images(*write(tmp_path, draw(40, 2)[..., ::-1]), tmp_path / "runs")

    assert fitted is not None
    unlike, told_apart = fitted.warnings
    assert unlike.startswith(
        "40 of 40 test images are unlike the training images, where 0.4 are expected. The test figures"
    )
    assert "Training and test images can be told apart by brightness, colour and contrast" in told_apart


@pytest.mark.parametrize("light", [0.6, 0.8])
def test_a_darker_test_set_is_told_apart(tmp_path: Path, light: float) -> None:
    """40 and 20 % darker: each picture might be a training image, all together are not."""
    fitted = fit_to_images(*write(tmp_path, draw(40, 2, light=light)), tmp_path / "runs")

    assert fitted is not None
    assert any("told apart" in warning for warning in fitted.warnings)


@pytest.mark.parametrize("seed", range(5))
def test_an_honest_split_gives_nothing(tmp_path: Path, seed: int) -> None:
    fitted = fit_to_images(*write(tmp_path, draw(40, 10 * seed + 2), seed), tmp_path / "runs")

    assert fitted is not None
    assert () == fitted.warnings


def test_false_alarms_over_honest_splits_are_rare() -> None:
    """Of 100 random splits of the same pictures hardly any is told apart."""
    statistics = measure_images(draw(160, 0))
    found = 0
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(160)
        train, test = order[:120], order[120:]
        found += find_difference(statistics[train], statistics[test], [*map(str, train)], [*map(str, test)]) is not None

    assert found <= 2


@pytest.mark.parametrize(
    ("alarms", "images", "calibrated_on", "said"),
    [
        pytest.param(61, 120, 480, True, id="half"),
        pytest.param(7, 120, 480, True, id="seven-of-120"),
        pytest.param(3, 120, 480, False, id="three-of-120"),
        pytest.param(3, 20, 20, False, id="threshold-from-few"),
        pytest.param(15, 20, 20, True, id="most-although-from-few"),
        pytest.param(1, 1, 480, False, id="one"),
        pytest.param(0, 0, 480, False, id="none"),
    ],
)
def test_the_number_of_alarms_is_judged_by_what_is_expected(
    alarms: int, images: int, calibrated_on: int, said: bool
) -> None:
    """A threshold from few images promises little, so that more alarms are no surprise."""
    found = find_unlike(np.arange(images) < alarms, [*map(str, range(images))], calibrated_on, FALSE_ALARMS)

    assert said is (found is not None)


def test_one_patient_is_no_shift() -> None:
    """Six alarms among 120 images are of one group: it may be one odd patient."""
    groups = ["P1"] * 6 + [str(i) for i in range(114)]

    assert find_unlike(np.arange(120) < 6, groups, 480, FALSE_ALARMS) is None


def test_few_groups_are_not_compared() -> None:
    statistics = measure_images(np.concatenate([draw(8, 0), draw(8, 1, light=0.4)]))

    assert find_difference(statistics[:8], statistics[8:], ["a"] * 8, ["b"] * 8) is None
