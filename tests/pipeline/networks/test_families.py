"""Every network family through the whole pipeline: one epoch on tiny images, export, verification, saliency."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from contract.store import CONTRACT_FILE, VERIFICATION_FILE, ModelStore
from engine.loading import load_engine
from pipeline.networks.backbones import find_backbone
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import run
from tests.helpers.image_sets import color_files, write_files

SIZES = {
    "AlexNet": 67,
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "GoogLeNet": 32,
    "InceptionResNetV2": 75,
    "InceptionV3": 75,
    "LeNet": 28,
    "MnistCNN": 28,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "NASNetMobile": 32,
    "ResNet": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "VGG16": 32,
    "Xception": 71,
}
SMALL = ("LeNet", "MnistCNN", "ResNet")  # they train whole in seconds
WHOLE = [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in SIZES]
# Less of two others: no dense layers of 18 million weights, and two modules of nine.
LESS = {"AlexNet": {"model.head": "gap"}, "GoogLeNet": {"model.last_layer": "concatenate_1"}}
# Of each family of Keras's, a layer up to which one network has every kind of layer that the whole has. A run costs by
# the layer: tracing, export and compilation of NASNetMobile's 769 take six times as long as those of its part.
PARTS = {
    "ConvNeXtTiny": "convnext_tiny_stage_1_block_0_identity",
    "DenseNet121": "conv3_block1_concat",
    "EfficientNetV2B0": "block4b_add",
    "InceptionV3": "mixed1",
    "NASNetMobile": "reduction_concat_stem_2",
    "ResNet50": "conv3_block1_out",
    "VGG16": "block3_pool",
    "Xception": "block4_sepconv1_act",
}
# MobileNetV2 stands for whole networks in every run.
HEADS = [
    pytest.param(name, marks=() if name == "MobileNetV2" else pytest.mark.slow)
    for name in sorted([*PARTS, "InceptionResNetV2", "MobileNetV2"])
]
FROM_SCRATCH = ["model.weights=none", "train.freeze_backbone=false", "train.fine_tune.epochs=0"]


@pytest.mark.parametrize("name", WHOLE)
def test_network_trains_exports_verifies_and_explains(tmp_path: Path, name: str) -> None:
    """A version is published whose probabilities are the Keras model's, with a map for each image and class."""
    check_run(tmp_path, name, FROM_SCRATCH)


@pytest.mark.parametrize("name", LESS)
def test_less_of_a_network_trains_exports_verifies_and_explains(tmp_path: Path, name: str) -> None:
    """The same of the first modules of a network, or with a head that has fewer weights."""
    if "model.last_layer" in LESS[name]:
        check_part(build(name), LESS[name]["model.last_layer"])
    keras.backend.clear_session()  # numbers the names of layers from the start
    check_run(tmp_path, name, [*FROM_SCRATCH, *(f"{key}={value}" for key, value in LESS[name].items())])


@pytest.mark.parametrize("name", PARTS)
def test_head_on_a_part_of_each_family_trains_exports_verifies_and_explains(tmp_path: Path, name: str) -> None:
    """The same of a head on a frozen backbone, whose weights come from a file and which ends early."""
    network = build(name)
    check_part(network, PARTS[name])
    weights = write_weights(tmp_path, name, network)
    check_run(
        tmp_path, name, [f"model.weights={weights}", f"model.last_layer={PARTS[name]}", "train.fine_tune.epochs=0"]
    )


@pytest.mark.parametrize("name", HEADS)
def test_head_of_each_family_trains_exports_verifies_and_explains(tmp_path: Path, name: str) -> None:
    """The same of a head on the whole frozen backbone."""
    weights = write_weights(tmp_path, name, build(name))
    check_run(tmp_path, name, [f"model.weights={weights}", "train.fine_tune.epochs=0"])


def test_what_ends_early_trains_on_kept_features_and_is_published(tmp_path: Path) -> None:
    """Head and last convolution of a part of MobileNet: two stages on features, and the same checks."""
    weights = write_weights(tmp_path, "MobileNet", build("MobileNet"))
    part = ["model.last_layer=conv_pw_6_relu", f"model.weights={weights}"]
    check_run(tmp_path, "MobileNet", [*part, "train.fine_tune.epochs=1", "train.fine_tune.unfreeze=1"])


def build(name: str) -> keras.Model:
    """Build a backbone with random weights, its layers' names numbered from the start."""
    keras.backend.clear_session()
    return find_backbone(name).build((SIZES[name], SIZES[name], 3))


def check_part(network: keras.Model, last_layer: str) -> None:
    """Compare the kinds of layers, class and activation, of a network and of its part that ends with a layer."""
    part = keras.Model(network.input, network.get_layer(last_layer).output)
    of_part, of_whole = (
        {(type(layer), getattr(layer, "activation", None)) for layer in each.layers} for each in (part, network)
    )
    assert of_part == of_whole


def write_weights(folder: Path, name: str, network: keras.Model) -> Path:
    """Write weights of a backbone as Keras does."""
    path = folder / f"{name}.weights.h5"
    network.save_weights(path)
    return path


def check_run(tmp_path: Path, name: str, extras: list[str]) -> None:
    """Train for an epoch a stage, and look at what is published."""
    size = SIZES[name]
    settings = [
        f"model.backbone={name}",
        f"model.input_size={size}",
        "train.epochs=1",
        "train.batch_size=6",
        *extras,
    ]
    dataset = write_files(tmp_path / "colors", color_files(train=4, test=2))
    recipe = load_recipe("default", settings)

    result = run(dataset, recipe, ModelStore(tmp_path / "models"), name="n", runs_dir=tmp_path / "runs")

    verification = json.loads((result.directory / VERIFICATION_FILE).read_text())
    exact = [found for found in verification["deviations"] if found["precision"] == "float32"]
    assert ["tensorflow", "openvino"] == [found["engine"] for found in exact]
    assert max(found["max_deviation"] for found in exact) <= 1e-4
    contract = json.loads((result.directory / CONTRACT_FILE).read_text())
    head = recipe.model.head or find_backbone(name).head
    assert {"gap": "cam", "flatten-dense": "grad-cam"}[head] == contract["saliency"]
    engine = load_engine(result.directory)
    try:
        images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
        answer = engine.run("explain", {"images": images, "class_index": np.array([-1, 0, 2], np.int32)})
    finally:
        engine.close()
    assert (3, 3) == answer["probabilities"].shape
    assert 3 == answer["saliency"].ndim == len(answer["saliency"])
    assert answer["saliency"].min() >= 0
    assert answer["saliency"].max() <= 1
    keras.backend.clear_session()
