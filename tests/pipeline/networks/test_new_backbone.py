"""A new backbone is one entry: it trains, is fine-tuned, exported and explained, and is listed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from contract.store import CONTRACT_FILE, VERIFICATION_FILE, ModelStore
from engine.loading import load_engine
from pipeline.__main__ import main
from pipeline.errors import RecipeError
from pipeline.networks.backbone import Backbone, Rule
from pipeline.networks.backbones import BACKBONES
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import Weights
from pipeline.recipe.recipe import load_recipe
from pipeline.recipe.training_settings import Model
from pipeline.run.run import RunResult, run
from pipeline.training.unfreezing import plan_stages
from tests.helpers.image_sets import color_files, write_files

SIZE = 24


@keras.saving.register_keras_serializable("test_new_backbone")
class Doubled(layers.Layer):  # type: ignore[misc]
    """A layer that only this backbone has, in its head."""

    def call(self, inputs: Any) -> Any:
        return 2.0 * inputs


def build(shape: tuple[int, int, int]) -> Any:
    images = keras.Input(shape)
    x = images
    for block, filters in enumerate((6, 8, 12)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_first")(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_second")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(images, x, name="three_blocks")


def finish(features: Any) -> Any:
    return Doubled()(layers.LayerNormalization()(features))


def double(layer: Any, before: Any, after: Any, gradient: Any) -> Any:
    return 2.0 * gradient


def rules() -> Mapping[type, Rule]:
    return {Doubled: double}


def blocks(all_layers: Sequence[Any]) -> list[int]:
    return [i for i, layer in enumerate(all_layers) if layer.name.endswith("_first")]


ENTRY = Backbone("ThreeBlocks", "torch", SIZE, 20, 3_000, build, finish=finish, saliency_rules=rules, blocks=blocks)
SETTINGS = [
    "model.backbone=ThreeBlocks",
    "model.weights=none",
    "train.freeze_backbone=false",
    "train.epochs=2",
    "train.fine_tune.epochs=1",
    "train.fine_tune.unfreeze=2",
    "train.batch_size=6",
]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, ENTRY.name, ENTRY)


def classifier() -> Classifier:
    settings = Model(backbone="ThreeBlocks", weights="none")
    return build_classifier(settings, Weights("none", None), num_classes=3, channels=3)


def test_entry_runs_from_images_to_maps(tmp_path: Path) -> None:
    """A run with the entry publishes probabilities that are the Keras model's, and maps of its own head."""
    dataset = write_files(tmp_path / "colors", color_files(train=6, test=2))
    recipe, store = load_recipe("default", SETTINGS), ModelStore(tmp_path / "models")

    result: RunResult = run(dataset, recipe, store, name="n", runs_dir=tmp_path / "runs")

    contract = json.loads((result.directory / CONTRACT_FILE).read_text())
    assert ("ThreeBlocks", "grad-cam") == (contract["provenance"]["backbone"], contract["saliency"])
    assert SIZE == contract["input"]["height"]
    verification = json.loads((result.directory / VERIFICATION_FILE).read_text())
    assert max(d["max_deviation"] for d in verification["deviations"] if d["precision"] == "float32") <= 1e-4
    engine = load_engine(result.directory)
    try:
        images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
        answer = engine.run("explain", {"images": images, "class_index": np.array([-1, 0, 2], np.int32)})
    finally:
        engine.close()
    assert (3, 3, 3) == answer["saliency"].shape
    assert answer["saliency"].max() == pytest.approx(1.0, abs=1e-6)


def test_maps_are_the_gradient_of_the_entrys_head() -> None:
    """The rule of the entry's own layer takes part: the result is tf.GradientTape's."""
    from pipeline.networks.saliency import carry_back

    features = keras.Input((2, 2, 12))
    head = keras.Model(features, ENTRY.add_head(features, "gap", num_classes=3, dropout=0.2)).layers[1:]
    between = keras.Model(features, [t for layer in head for t in (layer.input, layer.output)])
    maps, classes = tf.random.normal((3, 2, 2, 12), seed=1), tf.eye(3)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = tf.reduce_sum(between(maps, training=False)[-1] * classes)
    expected = tf.reduce_sum(tape.gradient(score, maps), axis=[1, 2]).numpy()

    values = between(maps, training=False)
    pairs = list(zip(values[::2], values[1::2], strict=True))

    assert np.allclose(expected, carry_back(head, pairs, classes, rules()).numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(RecipeError, match="Received: Doubled"):
        carry_back(head, pairs, classes)


@pytest.mark.parametrize(("unfreeze", "first"), [(1, "block2_first"), (2, "block1_first"), (9, "block0_first")])
def test_blocks_are_the_entrys(unfreeze: int, first: str) -> None:
    """train.fine_tune.unfreeze counts what the entry calls a block."""
    built = classifier()
    recipe = load_recipe("default", [*SETTINGS, f"train.fine_tune.unfreeze={unfreeze}"])

    trainable = plan_stages(built, recipe.train)[-1].trainable

    names = [layer.name for layer in built.backbone_layers]
    assert set(names[names.index(first) :]) == trainable


def test_entry_is_listed_and_names_its_limits(capsys: pytest.CaptureFixture[str]) -> None:
    """`backbones` and the refusals take the facts from the entry."""
    assert 0 == main(["backbones"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ThreeBlocks")]
    assert ["24", "20", "3,000", "none"] == line.split()[1:5]
    settings = Model(backbone="ThreeBlocks", weights="none", input_size=16)
    with pytest.raises(RecipeError, match="at least 20 for ThreeBlocks"):
        build_classifier(settings, Weights("none", None), num_classes=3, channels=3)
    assert 1 == main(["weights", "ThreeBlocks"])
    assert "imagenet is not offered for ThreeBlocks" in capsys.readouterr().err
