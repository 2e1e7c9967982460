"""pipeline/networks/preprocessing.py: one arithmetic, on numpy arrays, tensors and in exported graphs."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf

from contract.model import InputSpec, Label, ModelContract, build_document
from engine.loading import load_engine
from pipeline.errors import RecipeError
from pipeline.networks.network import build_classifier
from pipeline.networks.preprocessing import apply_preprocessing, check_channels, choose_preprocessing, preprocess
from pipeline.networks.weights import Weights
from pipeline.publishing.export import export_saved_model
from pipeline.recipe.preprocessing_modes import Mode
from pipeline.recipe.preprocessing_settings import Arithmetic
from pipeline.recipe.recipe import load_recipe
from pipeline.run.prepare import input_spec

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
SOME = [
    *get_args(Mode),
    Arithmetic(scale=1 / 255),
    Arithmetic(scale=(0.1, 0.2, 0.3), offset=(-1, 2, 3), color_order="bgr"),
]


@pytest.mark.parametrize("chosen", SOME, ids=str)
def test_arrays_and_tensors_get_the_same(chosen: Any) -> None:
    """Keras's own function, numpy's steps and TensorFlow agree."""
    wanted = apply_preprocessing(IMAGES, chosen)
    floats = IMAGES.astype(np.float32)

    assert np.allclose(wanted, preprocess(floats.copy(), chosen), atol=1e-4)
    assert np.allclose(wanted, preprocess(tf.constant(floats), chosen).numpy(), atol=1e-4)


@pytest.mark.parametrize("mode", ["none", "unit", "tf", "torch"])
def test_modes_in_reverse_are_the_modes(mode: Mode) -> None:
    """`--color-order bgr` beside a mode: the same numbers, the channels the other way round."""
    reverse = choose_preprocessing(mode, color_order="bgr")

    assert np.allclose(
        apply_preprocessing(IMAGES, mode)[..., ::-1], apply_preprocessing(IMAGES, reverse), rtol=1e-5, atol=1e-5
    )


def test_recipe_preprocessing_is_in_the_exported_graph(tmp_path: Path) -> None:
    """Training and serving use the recipe's arithmetic in place of the backbone's."""
    numbers = "model.preprocessing={scale: [0.01, 0.02, 0.005], offset: -1, color_order: bgr}"
    more = [
        "model.backbone=LeNet",
        "model.weights=none",
        "train.freeze_backbone=false",
        "model.fit=crop",
        "model.crop_fraction=0.875",
        numbers,
    ]
    recipe = load_recipe("default", more)
    spec = input_spec(recipe)
    classifier = build_classifier(recipe.model, Weights("none", None), num_classes=2, channels=3)
    document = build_document([Label("a", "a"), Label("b", "b")], spec, saliency=classifier.saliency)
    images = np.random.default_rng(0).integers(0, 256, (3, *spec.shape), np.uint8)

    export_saved_model(classifier, ModelContract.from_document(document), tmp_path)

    engine = load_engine(tmp_path)
    try:
        received = engine.run("serving_default", {"images": images})["probabilities"]
    finally:
        engine.close()
    pixels = images[..., ::-1].astype(np.float32) * np.float32([0.01, 0.02, 0.005]) - 1
    assert np.abs(np.asarray(classifier.model(pixels, training=False)) - received).max() < 1e-5
    assert InputSpec(28, 28, fit="crop", crop_fraction=0.875) == spec
    assert 2 == document["format"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.preprocessing=tof", "model.preprocessing: Input should be 'none', 'unit', 'tf', 'caffe' or 'torch'"),
        ("model.preprocessing={scal: 2}", "unknown key model.preprocessing.scal: did you mean scale?"),
        ("model.preprocessing={scale: 0}", "expected numbers other than 0"),
        ("model.preprocessing={scale: [1, 2, 3, 4]}", "model.preprocessing.scale: Tuple should have at most 3 items"),
        ("model.crop_fraction=1.2", "model.crop_fraction: Input should be less than or equal to 1"),
    ],
)
def test_mistakes_in_a_recipe_are_named(override: str, words: str) -> None:
    """By the key, without the names of types."""
    with pytest.raises(RecipeError) as caught:
        load_recipe("default", [override])
    assert words in str(caught.value)


def test_padding_keeps_everything() -> None:
    """A fraction of a padded picture is refused."""
    with pytest.raises(RecipeError, match="expected 1 with fit pad"):
        load_recipe("default", ["model.fit=pad", "model.crop_fraction=0.9"])


@pytest.mark.parametrize(
    "chosen", ["caffe", "torch", Arithmetic(color_order="bgr"), Arithmetic(scale=(1, 2, 3))], ids=str
)
def test_grey_images_take_one_number(chosen: Any) -> None:
    """What is for three channels is refused for one."""
    with pytest.raises(RecipeError, match="Received: "):
        check_channels(chosen, 1)
    check_channels(chosen, 3)
    check_channels(Arithmetic(scale=2), 1)
