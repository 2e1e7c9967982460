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
SMALL = ("AlexNet", "GoogLeNet", "LeNet", "MnistCNN", "ResNet")
# One of each family of Keras's. What takes long there is tracing the gradient of hundreds of layers.
HEADS = (
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNetV2",
    "NASNetMobile",
    "ResNet50",
    "VGG16",
    "Xception",
)
# InceptionV3 stands for its family in every run; the other of 780 layers is slow.
FAMILIES = [pytest.param(name, marks=pytest.mark.slow if name == "InceptionResNetV2" else ()) for name in HEADS]
WHOLE = [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in SIZES]


@pytest.mark.parametrize("name", WHOLE)
def test_network_trains_exports_verifies_and_explains(tmp_path: Path, name: str) -> None:
    """A version is published whose probabilities are the Keras model's, with a map for each image and class."""
    whole = ["model.weights=none", "train.freeze_backbone=false", "train.fine_tune.epochs=0"]
    check_run(tmp_path, name, whole)


@pytest.mark.parametrize("name", FAMILIES)
def test_head_of_each_family_trains_exports_verifies_and_explains(tmp_path: Path, name: str) -> None:
    """The same of a head on a frozen backbone, whose weights come from a file."""
    weights = write_weights(tmp_path, name)
    check_run(tmp_path, name, [f"model.weights={weights}", "train.fine_tune.epochs=0"])


def test_what_ends_early_trains_on_kept_features_and_is_published(tmp_path: Path) -> None:
    """Head and last convolution of a part of MobileNet: two stages on features, and the same checks."""
    weights = write_weights(tmp_path, "MobileNet")
    part = ["model.last_layer=conv_pw_6_relu", f"model.weights={weights}"]
    check_run(tmp_path, "MobileNet", [*part, "train.fine_tune.epochs=1", "train.fine_tune.unfreeze=1"])


def write_weights(folder: Path, name: str) -> Path:
    """Write random weights of a backbone as Keras does."""
    path = folder / f"{name}.weights.h5"
    find_backbone(name).build((SIZES[name], SIZES[name], 3)).save_weights(path)
    return path


def check_run(tmp_path: Path, name: str, extras: list[str]) -> None:
    """Train for an epoch a stage, and look at what is published."""
    backbone, size = find_backbone(name), SIZES[name]
    settings = [
        f"model.backbone={name}",
        f"model.input_size={size}",
        "train.epochs=1",
        "train.batch_size=6",
        *extras,
    ]
    dataset = write_files(tmp_path / "colors", color_files(train=4, test=2))

    result = run(
        dataset, load_recipe("default", settings), ModelStore(tmp_path / "models"), name="n", runs_dir=tmp_path / "runs"
    )

    verification = json.loads((result.directory / VERIFICATION_FILE).read_text())
    exact = [found for found in verification["deviations"] if found["precision"] == "float32"]
    assert ["tensorflow", "openvino"] == [found["engine"] for found in exact]
    assert max(found["max_deviation"] for found in exact) <= 1e-4
    contract = json.loads((result.directory / CONTRACT_FILE).read_text())
    assert {"gap": "cam", "flatten-dense": "grad-cam"}[backbone.head] == contract["saliency"]
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
