"""service/modelserver/serving/load.py: which engines a model is loaded on, and what each of them is asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.store import CONTRACT_FILE
from service.modelserver.serving.load import ModelLoader, RunSettings
from service.modelserver.serving.precisions import PrecisionChooser
from service.modelserver.serving.scheduling import BatchRecord, Scheduler
from service.modelserver.serving.tuning import Tuner

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
