"""Sentences of the report follow the recipe and the numbers: nothing is said that was not done."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.ranking import draw_curves
from pipeline.recipe.augment_settings import Augment
from pipeline.recipe.recipe import load_recipe
from pipeline.report.figures import average_curve
from pipeline.report.report import write_report
from pipeline.report.statements import describe_augmentation
from tests.pipeline.report.test_many_classes import rows_of
from tests.pipeline.report.test_report import LABELS, document

OFF = ["augment.rotation_range=0", "augment.width_shift_range=0", "augment.height_shift_range=0"]
OFF += ["augment.horizontal_flip=false"]
UNFROZEN = "train.freeze_backbone=false"
ONE_STAGE = "train.fine_tune.epochs=0"
ALWAYS = "Training images are augmented, validation images are not."
SHOWN_AS_THEY_ARE = "Augmentation is off: training images are shown as they are."
FROZEN = "Stages with frozen layers, whose features are kept, show each training image as it is"
REST = "; other stages augment it in every epoch. Validation images are not augmented."


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param([UNFROZEN, ONE_STAGE], ALWAYS, id="whole-network"),
        pytest.param([UNFROZEN, ONE_STAGE, "augment.views=1"], ALWAYS, id="views-are-of-frozen-networks"),
        pytest.param([*OFF, UNFROZEN], SHOWN_AS_THEY_ARE, id="off"),
        pytest.param(OFF, SHOWN_AS_THEY_ARE, id="off-frozen"),
        pytest.param([], f"{FROZEN} and in 3 augmented views{REST}", id="frozen"),
        pytest.param(["augment.views=2"], f"{FROZEN} and in 1 augmented view{REST}", id="two-views"),
        pytest.param(["augment.views=1"], f"{FROZEN} (augment.views=1){REST}", id="one-view"),
        pytest.param(["cache.features=false"], ALWAYS, id="no-features"),
        pytest.param(
            [UNFROZEN, "train.fine_tune.epochs=1"], f"{FROZEN} and in 3 augmented views{REST}", id="fine-tune"
        ),
        pytest.param([*OFF, UNFROZEN, ONE_STAGE, "augment.zoom_range=0.1"], ALWAYS, id="zoom-alone"),
    ],
)
def test_augmentation_is_said_as_it_was(settings: list[str], expected: str) -> None:
    """Off, in every epoch, or as views whose features are kept."""
    assert expected == describe_augmentation(load_recipe("default", settings).model_dump(mode="json"))


@pytest.mark.parametrize(
    "change",
    [
        {"rotation_range": 1},
        {"width_shift_range": 0.1},
        {"height_shift_range": 0.1},
        {"horizontal_flip": True},
        {"vertical_flip": True},
        {"shear_range": 1},
        {"zoom_range": 0.1},
        {"zoom_range": (0.9, 0.9)},
        {"brightness_range": (0.9, 1.0)},
        {"channel_shift_range": 1},
    ],
    ids=str,
)
def test_each_change_counts(change: dict[str, Any]) -> None:
    """Each one alone is augmentation; all off is none, also with factors of 1."""
    off = {"rotation_range": 0, "width_shift_range": 0, "height_shift_range": 0, "horizontal_flip": False}

    assert Augment(**{**off, **change}).changes_images
    assert not Augment(**off, zoom_range=(1, 1), brightness_range=(1, 1)).changes_images
    # A setting that this test does not know is new: does it change images?
    assert set(Augment.model_fields) == {
        *("engine", "legacy_axis_swap", "views", "fill_mode", "cval"),
        *off,
        *("vertical_flip", "shear_range", "zoom_range", "brightness_range", "channel_shift_range"),
    }


class _Text(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(path.read_text())

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def text_of(path: Path, facts: dict[str, Any]) -> str:
    write_report(path, {"recipe_yaml": "", **facts})
    return " ".join(_Text(path).words)


@pytest.mark.parametrize(("groups", "said"), [(4, False), (5, True), (300, True)])
def test_fifths_are_said_where_there_are_five_groups(tmp_path: Path, groups: int, *, said: bool) -> None:
    """The novelty check holds back whole groups; fewer than five cannot be divided."""
    text = text_of(tmp_path / "report.html", {**document(LABELS), "train_groups": groups})

    assert said == ("each fifth of them held back in turn" in text)


def test_nothing_confused_is_said(tmp_path: Path) -> None:
    """A table of the most confused pairs needs a pair."""
    labels = [f"species {i:02}" for i in range(20)]
    facts = document(labels)
    facts["test"]["confusion"] = np.diag([5] * 20).tolist()

    text = text_of(tmp_path / "report.html", facts)

    assert "Every test image was called by its class." in text
    assert 1 == len(rows_of((tmp_path / "report.html").read_text(), "Confusion"))


@pytest.mark.parametrize("count", [2, 12, 20, 26])
def test_curves_of_all_classes(tmp_path: Path, count: int) -> None:
    """Every class up to twenty has its curve; of more, the caption says which are drawn. The average is over all."""
    labels = [f"species {i:02}" for i in range(count)]
    text = text_of(tmp_path / "report.html", document(labels))

    html = (tmp_path / "report.html").read_text()
    for figure in ("ROC curves by class", "Precision-recall curves by class"):
        found = re.search(rf'src="data:image/svg\+xml;base64,([^"]+)" alt="{figure}"', html)
        assert found is not None
        svg = base64.b64decode(found[1]).decode()
        assert min(count, 20) == len(set(re.findall(r">(species \d\d)  ", svg)))
        assert ">macro average  " in svg
    assert (count > 20) == (f"The 20 classes that are hardest to tell, of {count};" in text)


def test_average_curve_has_the_mean_area() -> None:
    """The area below the macro average is the mean of the areas, as it is for ROC curves."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 400)
    curves, areas = [], []
    for i in range(4):
        scores = rng.normal(size=400) + 1.5 * (targets == i)
        drawn = draw_curves(scores, targets == i)
        assert drawn is not None
        curves.append(drawn)
        x, y = np.asarray(drawn["roc"]).T
        areas.append(np.trapezoid(y, x))

    grid, mean = average_curve([curve["roc"] for curve in curves], "roc")
    assert np.trapezoid(mean, grid) == pytest.approx(np.mean(areas), abs=0.01)
    grid, mean = average_curve([curve["precision_recall"] for curve in curves], "precision_recall")
    assert 0 <= mean.min() <= mean.max() <= 1
    whole = [max(y for x, y in curve["precision_recall"] if x == 1) for curve in curves]
    assert mean[-1] == pytest.approx(np.mean(whole), abs=1e-6)
