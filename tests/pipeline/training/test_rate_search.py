"""The learning-rate range test: its curve and its suggestion, the weights after it, training at the rate it finds."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import load_recipe
from pipeline.training.rate_search import HIGHEST, LOWEST, smooth, suggest_rate
from pipeline.training.train import History, search_first_rate
from tests.helpers.image_sets import color_files, write_files
from tests.pipeline.training.test_train import LABELS, Bench

RATES = np.geomspace(LOWEST, HIGHEST, 100).tolist()
LAYERS = [
    "model.backbone=layers",
    "model.layers=[{Conv2D: {filters: 4, kernel_size: 5, strides: 2}}, ReLU, Flatten, {Dropout: {rate: 0.2}}]",
    "model.weights=none",
    "train.freeze_backbone=false",
    "train.fine_tune.epochs=0",
    "train.epochs=2",
]
FROZEN = ["train.epochs=2", "train.fine_tune={epochs: 1, unfreeze: 2, learning_rate: find}"]


def losses(shape: Callable[[float], float], *, noise: float, seed: int = 0) -> list[float]:
    """Losses of batches at each rate."""
    generator = np.random.default_rng(seed)
    return [shape(np.log10(rate)) + float(generator.normal(0, noise)) for rate in RATES]


def fall(exponent: float) -> float:
    """2.3, falling to 0.5 between the rates 0.001 and 0.1, and growing beyond 0.3."""
    return 2.3 - 1.8 * min(1.0, max(0.0, (exponent + 3) / 2)) + 40 * max(0.0, exponent + 0.5)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_suggests_the_middle_of_the_fall(noise: float, seed: int) -> None:
    """A rate between the start and the end of the fall; noise moves it little, and the lowest loss is at its end."""
    search = suggest_rate(RATES, losses(fall, noise=noise, seed=seed), diverged=True)

    assert search.suggested is not None and search.lowest is not None
    assert 4e-3 <= search.suggested <= 5e-2
    assert search.suggested < search.lowest <= 0.6
    assert float(f"{search.suggested:.2g}") == search.suggested


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(lambda exponent: 2.3, id="flat"),
        pytest.param(lambda exponent: 2.3 + max(0.0, exponent), id="harms-only"),
        pytest.param(lambda exponent: 0.0, id="zero"),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("seed", range(10))
def test_a_curve_without_a_fall_has_no_suggestion(shape: Callable[[float], float], noise: float, seed: int) -> None:
    """Batches that differ are no fall of the loss."""
    search = suggest_rate(RATES, losses(shape, noise=noise, seed=seed), diverged=False)

    assert (None, None, None) == (search.suggested, search.steepest, search.lowest)
    assert "batches alone differ" in search.reason


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_loss_that_diverges_at_once_has_no_suggestion(count: int) -> None:
    """A handful of steps is no curve."""
    search = suggest_rate(RATES, [2.3] * count, diverged=True)

    assert f"it diverged after {count} steps" == search.reason
    assert len(search.losses) == len(search.rates) == count


def test_smoothing_is_corrected_for_its_start() -> None:
    """A constant stays what it is; a step is followed by tenths."""
    assert np.allclose(1.5, smooth([1.5] * 5))
    assert np.allclose([1, 1, 1 + 1 / (1 + 0.9 + 0.81)], smooth([1, 1, 2]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("fast", "train.learning_rate: Input should be a valid number"),
        ("11", "train.learning_rate: Input should be less than or equal to 10. Received: 11"),
        ("[find]", "train.learning_rate: Input should be a valid number"),
        ("0.1 --", "train.learning_rate: Input should be a valid number"),
    ],
)
def test_recipes_take_a_rate_or_find(value: str, reason: str) -> None:
    """The error names the key alone; `find` is read back as it was written."""
    with pytest.raises(RecipeError, match=re.escape(reason)):
        load_recipe("default", [f"train.learning_rate={value}"])

    with pytest.raises(RecipeError, match=r"unknown key train\.rate"):
        load_recipe("default", ["train.rate=1"])
    recipe = load_recipe("default", ["train.learning_rate=find", "train.fine_tune.learning_rate=find"])
    assert recipe == type(recipe).model_validate(recipe.model_dump(mode="json"))


def variables(bench: Bench) -> list[np.ndarray]:
    return [np.asarray(variable).copy() for variable in bench.classifier.trained_model.variables]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "overrides", [pytest.param(LAYERS, id="own-layers"), pytest.param(FROZEN, id="features", marks=pytest.mark.slow)]
)
def test_a_run_that_finds_its_rate_is_a_run_with_that_rate(tmp_path: Path, overrides: list[str]) -> None:
    """Curves and every variable are bit for bit those of a recipe that names the rates: the search leaves no trace."""
    found = Bench(tmp_path / "found", [*overrides, "train.learning_rate=find"])
    history = found.train()
    named = [f"train.learning_rate={history.rates[history.curves[0]['stage']]['used']}"]
    if "fine-tune" in history.rates:
        named.append(f"train.fine_tune.learning_rate={history.rates['fine-tune']['used']}")

    plain = Bench(tmp_path / "plain", [*overrides, *named])
    expected = plain.train()

    assert expected.curves == history.curves
    assert same(variables(plain), variables(found))
    assert not expected.rates
    assert {row["stage"] for row in history.curves} == history.rates.keys()


def test_the_search_restores_variables_and_is_repeatable(tmp_path: Path) -> None:
    """Weights, batch statistics and dropout's generators are those from before; the same seed gives the same curve."""
    settings = ["model.weights=none", "train.freeze_backbone=false", "train.fine_tune.epochs=0", "model.dropout=0.3"]
    bench = Bench(tmp_path, settings)
    before = variables(bench)

    def search() -> Any:
        arguments = bench.classifier, bench.manifest, LABELS, bench.pixels, bench.recipe, bench.folder
        return search_first_rate(*arguments, steps=30)

    first, second = search(), search()

    assert same(before, variables(bench))
    assert first == second
    assert 10 <= len(first.rates) <= 30
    assert not list(bench.folder.iterdir())  # neither checkpoint nor weights


def test_a_run_without_a_fall_keeps_the_default_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be learned where the loss is 0 by its weight; the warning is in the document too."""
    bench = Bench(tmp_path, [*LAYERS, "train.learning_rate=find"])
    rows = tuple(row for row in bench.manifest.rows if row.label == "red")
    bench.manifest = type(bench.manifest)(rows)
    logits = bench.classifier.model.layers[-2] if bench.classifier.model.layers[-2].weights else None
    layer = logits or next(layer for layer in reversed(bench.classifier.model.layers) if layer.weights)
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * 0, np.array([0, 0, 50], bias.dtype)])

    history: History = bench.train()

    assert history.rates["network"]["suggested"] is None
    assert 0.001 == history.rates["network"]["used"]
    assert np.isclose(0.001, history.curves[0]["learning_rate"])
    (warning,) = history.warnings()
    assert f"{warning}." in caplog.messages
    assert "give a number in train.learning_rate" in warning


def test_command_suggests_a_rate_and_writes_the_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines have the rate, the files the curve; no run, version or split is left behind."""
    dataset = write_files(tmp_path / "colors", color_files(train=8, test=2))
    options = ["--set", "model.input_size=32", *(word for setting in LAYERS for word in ("--set", setting))]
    folders = ["--models-dir", str(tmp_path / "models"), "--runs-dir", str(tmp_path / "runs")]
    out = tmp_path / "curve"

    status = main(["lr-find", str(dataset), *options, *folders, "--steps", "40", "--out", str(out)])

    printed = capsys.readouterr().out
    assert 0 == status
    suggested = re.search(r"suggested for stage network: (\S+)", printed)
    assert suggested and f"--set train.learning_rate={suggested[1]}" in printed
    with (out / "learning_rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 10 <= len(rows) <= 40
    assert float(rows[0]["learning_rate"]) < float(suggested[1]) < float(rows[-1]["learning_rate"])
    assert (out / "learning_rates.svg").read_bytes().startswith(b"<?xml")
    assert not list((tmp_path / "runs").rglob("manifest.csv")) and not list((tmp_path / "runs").rglob("run.json"))
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize("steps", ["19", "1001", "-1"])
def test_steps_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: str) -> None:
    """The option, its range and the value are named before anything is read."""
    dataset = write_files(tmp_path / "colors", color_files(train=2, test=1))

    assert 1 == main(["lr-find", str(dataset), "--steps", steps, "--runs-dir", str(tmp_path / "runs")])

    assert f"error: --steps: expected 20 to 1000. Received: {steps}" in capsys.readouterr().err


@pytest.mark.slow
def test_report_has_the_curve(tmp_path: Path) -> None:
    """metrics.json has the range test; the report says what it found; resuming keeps what was found."""
    dataset = write_files(tmp_path / "colors", color_files())
    options = ["--set", "model.input_size=32", *(word for setting in LAYERS for word in ("--set", setting))]
    folders = ["--models-dir", str(tmp_path / "models"), "--runs-dir", str(tmp_path / "runs")]

    assert 0 == main(["run", str(dataset), *options, "--set", "train.learning_rate=find", *folders])

    (metrics,) = (tmp_path / "runs").rglob("metrics.json")
    found = json.loads(metrics.read_text())["training"]["learning_rates"]["network"]
    assert found["used"] == found["suggested"]
    for report in (metrics.with_name("report.html"), metrics.with_name("report-aggregates.html")):
        text = report.read_text()
        assert "Loss by learning rate, stage network" in text
        assert f"it trained at {found['used']:.3g}, in the middle of the fall of the loss" in text
