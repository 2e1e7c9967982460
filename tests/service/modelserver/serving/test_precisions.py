"""service/modelserver/serving/precisions.py: the fastest allowed precision is measured, not assumed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from engine.engine import Arrays, Engine
from engine.errors import ModelLoadError
from engine.saved_model import read_signatures
from service.modelserver.serving import precisions
from service.modelserver.serving.precisions import PrecisionChooser

ALLOWED = ("float32", "bfloat16", "int8")


class TimedEngine(Engine):
    """Takes a known time for a run."""

    name = "openvino"

    def __init__(self, directory: Path, seconds: float) -> None:
        super().__init__(read_signatures(directory))
        self.seconds = seconds

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        time.sleep(self.seconds)
        return {}

    def close(self) -> None:
        """Nothing is held."""


class Loads:
    """Loads engines of known speed and counts them.

    Args:
        directory: of the model.
        seconds: of a run, by precision; a precision that is missing cannot be loaded.
    """

    def __init__(self, directory: Path, **seconds: float) -> None:
        self.loaded: list[str] = []
        self._directory = directory
        self._seconds = seconds

    def __call__(self, precision: str) -> Engine:
        self.loaded.append(precision)
        if precision not in self._seconds:
            raise ModelLoadError(f"{precision} is broken")
        return TimedEngine(self._directory, self._seconds[precision])


@pytest.fixture
def model(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["plain"]


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any machine seems to have every precision."""
    monkeypatch.setattr(precisions, "allowed_precisions", lambda directory, engine: ALLOWED)


def choose(loads: Loads, model: Path, *, is_busy: bool = False) -> str:
    return PrecisionChooser("auto", is_busy=lambda: is_busy).choose(model, loads)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param({"float32": 0.03, "bfloat16": 0.015, "int8": 0.005}, "int8", id="int8 is fastest"),
        pytest.param({"float32": 0.03, "bfloat16": 0.005, "int8": 0.015}, "bfloat16", id="int8 is slower"),
        pytest.param({"float32": 0.005, "bfloat16": 0.02, "int8": 0.02}, "float32", id="a small network"),
        pytest.param({"float32": 0.03, "bfloat16": 0.01}, "bfloat16", id="int8 cannot be loaded"),
        pytest.param({}, "auto", id="nothing can be loaded: the loader says why"),
    ],
)
def test_the_fastest_is_taken(model: Path, seconds: dict[str, float], expected: str) -> None:
    """Each allowed precision is loaded once and timed."""
    loads = Loads(model, **seconds)
    assert choose(loads, model) == expected
    assert loads.loaded == list(ALLOWED)


def test_nothing_is_measured_while_the_cores_are_busy(model: Path) -> None:
    """The engine's own choice then, which never is int8."""
    loads = Loads(model)
    assert choose(loads, model, is_busy=True) == "auto"
    assert loads.loaded == []


def test_the_next_version_is_not_measured_again(model: Path, tmp_path: Path) -> None:
    """New weights change no speed."""
    loads = Loads(model, float32=0.01, bfloat16=0.002, int8=0.02)
    chooser = PrecisionChooser("auto", is_busy=lambda: False)
    assert chooser.choose(model, loads) == "bfloat16"
    shutil.copytree(model, tmp_path / "2")
    assert chooser.choose(tmp_path / "2", loads) == "bfloat16"
    assert len(loads.loaded) == 3


def test_a_model_with_one_precision_is_not_measured(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """Most models of most machines."""
    monkeypatch.setattr(precisions, "allowed_precisions", lambda directory, engine: ("float32",))
    loads = Loads(model)
    assert choose(loads, model) == "auto"
    assert loads.loaded == []
