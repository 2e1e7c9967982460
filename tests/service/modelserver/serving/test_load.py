"""service/modelserver/serving/load.py: which engines a model is loaded on, and what each of them is asked."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.store import CONTRACT_FILE
from engine.errors import ModelLoadError
from service.modelserver.serving.load import ModelLoader, RunSettings
from service.modelserver.serving.precisions import PrecisionChooser
from service.modelserver.serving.scheduling import BatchRecord, Scheduler
from service.modelserver.serving.tuning import Tuner
from tests.helpers.judged_model import make_judged, write_verification

IMAGES = np.random.default_rng(9).integers(0, 256, (1, 16, 16, 3), np.uint8)


@pytest.fixture
def loader() -> Iterator[ModelLoader]:
    """Loads models on two streams of a core each."""
    scheduler = Scheduler(2)
    tuner = Tuner(num_threads=2, folder=None, is_busy=lambda: False)
    chooser = PrecisionChooser("auto", is_busy=lambda: False)
    yield ModelLoader(scheduler, tuner, chooser, RunSettings(num_streams=2))
    scheduler.close()


def test_lone_calls_of_any_signature_are_answered(loader: ModelLoader, tiny_models: dict[str, Path]) -> None:
    """The engine for one row holds `serving_default` alone; an explanation that comes alone runs on a stream."""
    records: list[BatchRecord] = []
    queue = loader.load(tiny_models["plain"], records.append)
    try:
        assert "openvino" == queue.engine.name
        answer = queue.submit("serving_default", {"images": IMAGES}).result(60)
        explained = queue.submit("explain", {"images": IMAGES, "class_index": np.zeros(1, np.int32)}).result(60)
        described = queue.submit("describe", {"row": np.zeros(1, np.int32)}).result(60)
    finally:
        queue.close()
    assert ((1, 3), (1, 4, 4)) == (answer["probabilities"].shape, explained["saliency"].shape)
    assert described["contract"][0] == (tiny_models["plain"] / CONTRACT_FILE).read_bytes()
    assert ["serving_default", "explain", "describe"] == [record.signature for record in records]


def test_one_runtime_answers_all_signatures(loader: ModelLoader, tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """OpenVINO reads `serving_default` of this model, but not `describe`: TensorFlow answers both then."""
    shutil.copytree(tiny_models["plain"], tmp_path / "model")
    (tmp_path / "model" / CONTRACT_FILE).unlink()
    queue = loader.load(tmp_path / "model")
    try:
        assert ("tensorflow", None) == (queue.engine.name, queue._lone_engine)
        assert queue.submit("describe", {"row": np.zeros(1, np.int32)}).result(60)["contract"].shape == (1,)
    finally:
        queue.close()


@pytest.fixture
def judged(tmp_path: Path, tiny_models: dict[str, Path]) -> Path:
    """A version whose verification allows int8, and keeps its outputs of the synthetic images."""
    make_judged(tiny_models["plain"], tmp_path / "colours" / "1")
    return tmp_path / "colours" / "1"


def load_pinned(directory: Path, precision: str) -> str:
    """Return the precision that a model server with `--precision` serves a version at."""
    scheduler = Scheduler(2)
    tuner = Tuner(num_threads=2, folder=None, is_busy=lambda: False)
    chooser = PrecisionChooser("auto", is_busy=lambda: False)
    try:
        queue = ModelLoader(scheduler, tuner, chooser, RunSettings(precision=precision, num_streams=1)).load(directory)
        try:
            return queue.engine.precision
        finally:
            queue.close()
    finally:
        scheduler.close()


def test_a_pinned_precision_that_is_allowed_is_served(judged: Path) -> None:
    """The whole fleet serves it, whatever each machine would measure."""
    assert load_pinned(judged, "int8") == "int8"
    assert load_pinned(judged, "float32") == "float32"


def test_a_pinned_precision_is_refused_by_name(judged: Path) -> None:
    """The version, what it allows and what was asked for; the version does not load."""
    write_verification(judged, equivalent=False)
    with pytest.raises(ModelLoadError, match=r"colours/1 allows by its verification: float32\. Received: int8"):
        load_pinned(judged, "int8")


def test_other_outputs_than_the_kept_ones_are_refused_where_pinned(judged: Path) -> None:
    """This machine computes int8 otherwise than the one that published."""
    write_verification(judged, moved_by=0.03)
    with pytest.raises(ModelLoadError, match=r"at int8: expected probabilities at most 0\.02 .* Received: 0\.03"):
        load_pinned(judged, "int8")


def test_a_precision_with_other_outputs_is_not_chosen(
    judged: Path, loader: ModelLoader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By default the next precision is served, and the log names the one that differs and the version."""
    monkeypatch.setattr(PrecisionChooser, "choose", lambda self, directory, load, without=(): choose_int8(without))
    write_verification(judged, moved_by=0.01)
    assert load_at_default(loader, judged) == "int8"
    write_verification(judged, moved_by=0.03)
    assert load_at_default(loader, judged) == "float32"
    assert "colours/1: int8 is not used: synthetic images at int8" in caplog.text


def choose_int8(without: Collection[str]) -> str:
    """A machine on which int8 is always fastest."""
    return "float32" if "int8" in without else "int8"


def load_at_default(loader: ModelLoader, directory: Path) -> str:
    queue = loader.load(directory)
    try:
        return queue.engine.precision
    finally:
        queue.close()
