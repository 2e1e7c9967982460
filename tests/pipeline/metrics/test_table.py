"""pipeline/metrics/table.py: values against scikit-learn, and every reader of the table."""

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.errors import RecipeError
from pipeline.evaluation.measure import measure
from pipeline.metrics.reliability import reliability
from pipeline.metrics.table import METRICS, Predictions, find_metric, metric_names, metrics_in
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import RunResult, run
from tests.helpers.image_sets import color_files, write_files

QUICK = [
    "model.input_size=32",
    "data.group=^(.*)_",
    "train.epochs=4",
    "train.batch_size=8",
    "train.fine_tune.epochs=0",
]


def average_of(average: str, place: int, probabilities: Any, targets: Any) -> float:
    said = probabilities.argmax(axis=1)
    found = reference.precision_recall_fscore_support(targets, said, average=average, zero_division=0)
    return float(found[place])


EXPECTED: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": lambda p, t: reference.accuracy_score(t, p.argmax(axis=1)),
    "balanced_accuracy": lambda p, t: reference.balanced_accuracy_score(t, p.argmax(axis=1)),
    "matthews_correlation": lambda p, t: reference.matthews_corrcoef(t, p.argmax(axis=1)),
    "brier": lambda p, t: ((p - np.eye(3)[t]) ** 2).sum() / len(t),
    "log_loss": lambda p, t: -np.log(np.maximum(p[range(len(t)), t], 1e-12)).mean(),
    "expected_calibration_error": lambda p, t: reliability(p, t)["expected_calibration_error"],
} | {
    f"{average}_{rate}": partial(average_of, average, place)
    for average in ("macro", "weighted")
    for place, rate in enumerate(("precision", "recall", "f1"))
}


def draw(seed: int, images: int = 300, skill: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, images)
    logits = rng.normal(0, 1, (images, 3)) + skill * np.eye(3)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(probabilities.astype(np.float32), targets)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("skill", [0.0, 1.0, 50.0])
def test_values_are_the_references(seed: int, skill: float) -> None:
    """Every metric of the table has a reference here and agrees with it: by chance, good and perfect predictions."""
    assert set(EXPECTED) == {metric.name for metric in METRICS}
    predictions = draw(seed, skill=skill)

    for metric in METRICS:
        expected = EXPECTED[metric.name](predictions.probabilities, predictions.targets)
        assert expected == pytest.approx(metric.compute(predictions), abs=1e-6), metric.name


@pytest.mark.parametrize("name", [metric.name for metric in METRICS])
def test_directions_hold(name: str) -> None:
    """Better predictions move each metric in the direction that the table gives."""
    found = find_metric(name)

    worse, better = (found.compute(draw(5, skill=skill)) for skill in (0.0, 50.0))

    assert (better < worse) == found.lower_is_better


@pytest.mark.parametrize("targets", [[0, 0, 0], [1, 1, 2]])
def test_values_are_finite_where_a_class_is_missing(targets: list[int]) -> None:
    """One class alone, or a prediction of one class alone, gives numbers."""
    probabilities: NDArray[np.float32] = np.array([[0.8, 0.1, 0.1]] * 3, np.float32)

    values = [metric.compute(Predictions(probabilities, np.array(targets))) for metric in METRICS]

    assert all(math.isfinite(value) for value in values)


@pytest.mark.parametrize("targets", [[0, 0, 0, 1], [1, 1, 2, 2], [2, 2, 2, 2]])
def test_averages_are_scikit_learns_where_a_class_is_missing(targets: list[int]) -> None:
    """Classes that neither occur nor are predicted do not count; a rate without a denominator counts as 0."""
    probabilities = np.array([[0.8, 0.1, 0.1]] * 3 + [[0.1, 0.8, 0.1]], np.float32)

    for metric in METRICS:
        if metric.name.startswith(("macro_", "weighted_")):
            expected = EXPECTED[metric.name](probabilities, np.array(targets))
            assert expected == pytest.approx(metric.compute(Predictions(probabilities, np.array(targets)))), metric.name


def test_measure_holds_the_whole_table() -> None:
    """measure() has every metric, and an interval around each that has one."""
    predictions = draw(1)

    result = measure(predictions.probabilities, predictions.targets, ["a", "b", "c"])

    for metric in METRICS:
        assert metric.compute(predictions) == result[metric.name]
        assert (f"{metric.name}_interval" in result) == (metric.per_image is not None)
        if metric.per_image is not None:
            low, high = result[f"{metric.name}_interval"]
            assert low < result[metric.name] < high


@pytest.mark.parametrize("name", metric_names("gate"))
def test_gate_metric_can_be_chosen(name: str) -> None:
    """A recipe takes every metric of the gate; others are refused with the list of them."""
    assert name == load_recipe("demo", [f"evaluate.gate.metric={name}"]).evaluate.gate.metric

    with pytest.raises(RecipeError, match=rf"evaluate\.gate\.metric: .*'{name}'"):
        load_recipe("demo", ["evaluate.gate.metric=expected_calibration_error"])


@pytest.fixture(name="result", scope="module")
def fixture_result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run, judged by the last metric of the gate."""
    work = tmp_path_factory.mktemp("work")
    write_files(work / "colors", color_files(train=12, test=12))
    store = ModelStore(work / "models")
    recipe = load_recipe("demo", [*QUICK, f"evaluate.gate.metric={metric_names('gate')[-1]}"])
    first = run(work / "colors", recipe, store, name="colors", runs_dir=work / "runs")
    assert "first" == first.gate.verdict
    return run(work / "colors", recipe, store, name="colors", runs_dir=work / "runs", again=True)


def test_every_reader_shows_its_metrics(result: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    """metrics.json, the gate, report, contract, `models` and `compare` follow the table."""
    work = result.folder.parents[2]
    flags = [f"--models-dir={work / 'models'}", f"--runs-dir={work / 'runs'}"]
    test = json.loads((result.folder / "metrics.json").read_text())["test"]
    provenance = json.loads((result.directory / "assets.extra/contract.json").read_text())["provenance"]
    html = (result.folder / "report.html").read_text()
    last = metric_names("gate")[-1]

    assert {metric.name for metric in METRICS} <= set(test)
    assert ("passed", last) == (result.gate.verdict, result.gate.metric)
    assert test[last] == pytest.approx(result.gate.value, abs=1e-5)
    in_contract = ("images", "accuracy_interval", *metric_names("contract"))
    assert {name: test[name] for name in in_contract} == provenance["metrics"]
    headline = html.split('class="headline"')[1].split("</ul>")[0]
    for metric in metrics_in("report"):
        assert f"</b>{metric.title} <small>" in headline
    assert len(metrics_in("report")) == headline.count("<li>")

    assert 0 == main(["models", *flags])
    header, *lines = capsys.readouterr().out.splitlines()
    assert all(metric.words in header for metric in metrics_in("models"))
    assert all(f"{test[metric.name]:.4f}" in lines[-1] for metric in metrics_in("models"))
    assert 0 == main(["models", "--json", *flags])
    listed = {name: value for name, value in provenance["metrics"].items() if name != "accuracy_interval"}
    assert listed == json.loads(capsys.readouterr().out)[-1]["metrics"]
    assert 0 == main(["compare", "colors/1", "colors/2", *flags])
    compared = capsys.readouterr().out
    assert all(f"\n{metric.words}  " in compared for metric in METRICS)
