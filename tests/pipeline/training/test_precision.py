"""precision.py: what a stage computes at, why, and that the trained network is float32 again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.training import precision as precision_module
from pipeline.training.precision import FLOAT32, MIXED, choose_precision, has_bfloat16
from pipeline.training.train import train
from tests.pipeline.training.test_train import LABELS, Bench

WHOLE = ["model.weights=none", "train.freeze_backbone=false", "train.epochs=1", "train.fine_tune.epochs=0"]


def never(precision: str) -> Sequence[float]:
    raise AssertionError(f"{precision} was measured")


@pytest.mark.parametrize(("mixed", "used"), [(0.76, MIXED), (0.77, FLOAT32), (1.4, FLOAT32)])
def test_auto_takes_what_is_faster_by_enough(monkeypatch: pytest.MonkeyPatch, mixed: float, used: str) -> None:
    """By the shortest step of each: others are another program's."""
    monkeypatch.setattr(precision_module, "processor_flags", lambda: frozenset({"avx512_bf16"}))
    steps = {FLOAT32: [1.0, 3.0, 1.2], MIXED: [5.0, mixed, 2.0]}

    chosen = choose_precision("auto", trains_backbone=True, measure=steps.__getitem__)

    assert used == chosen.used
    assert {FLOAT32: 1.0, MIXED: mixed} == chosen.document()["step_s"]


def test_nothing_is_measured_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the recipe names the precision, the head trains alone, or the processor has no bfloat16."""
    assert MIXED == choose_precision(MIXED, trains_backbone=True, measure=never).used
    assert FLOAT32 == choose_precision(MIXED, trains_backbone=False, measure=never).used
    monkeypatch.setattr(precision_module, "processor_flags", frozenset)
    if not has_bfloat16():  # a GPU has it
        assert FLOAT32 == choose_precision("auto", trains_backbone=True, measure=never).used


class Watch(keras.callbacks.Callback):
    """Notes the policies of layers while they train."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self._layers = layers
        self.policies: set[str] = set()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.policies |= {layer.dtype_policy.name for layer in self._layers}


def test_the_backbone_trains_at_bfloat16_and_is_float32_again(tmp_path: Path) -> None:
    """Other weights than float32's, of float32; the kept model gives what the network in memory gives."""
    trained = {}
    for name in (FLOAT32, MIXED):
        bench = Bench(tmp_path / name, [*WHOLE, f"train.precision={name}"])
        watch = Watch(bench.classifier.backbone_layers)
        history = train(
            bench.classifier, bench.manifest, LABELS, bench.pixels, bench.recipe, bench.folder, callbacks=[watch]
        )
        assert {name} == watch.policies
        assert {FLOAT32} == {layer.dtype_policy.name for layer in bench.classifier.model.layers}
        trained[name] = bench.classifier.model.get_weights()

    found = history.document()["precisions"]["network"]
    assert {"used": MIXED, "step_s": {}, "reason": "the recipe names it"} == found
    assert {np.dtype(np.float32)} == {array.dtype for array in trained[MIXED]}
    assert any((one != other).any() for one, other in zip(trained[MIXED], trained[FLOAT32], strict=True))
    bench.classifier.model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    kept = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(kept(images, training=False), bench.classifier.model(images, training=False))


def test_measured_steps_leave_no_trace(tmp_path: Path) -> None:
    """A run whose precision is measured has the curves of a run that names it."""
    measured = Bench(tmp_path / "measured", [*WHOLE, "train.precision=auto"])
    history = measured.train()
    used = history.precisions["network"]["used"]
    named = Bench(tmp_path / "named", [*WHOLE, f"train.precision={used}"])

    assert history.curves == named.train().curves
    if has_bfloat16():
        assert {FLOAT32, MIXED} == history.precisions["network"]["step_s"].keys()
