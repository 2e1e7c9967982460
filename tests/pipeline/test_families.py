"""Every network family through the whole pipeline: one epoch on tiny images, export, verification, saliency."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from contract.store import CONTRACT_FILE, VERIFICATION_FILE, ModelStore
from engine.loading import load_engine
from pipeline.backbones import find_backbone
from pipeline.recipe import load_recipe
from pipeline.run import run
from tests.helpers.image_sets import color_files, write_files

# The hand-made backward pass through several hidden layers in every test run, where tests of runs cover the other head.
QUICK = {"LeNet", "MnistCNN"}
FAMILIES = {
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
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]


@pytest.mark.parametrize("name", ALL)
def test_family_trains_exports_verifies_and_explains(tmp_path: Path, name: str) -> None:
    """A version is published whose probabilities are the Keras model's, with a map for each image and class."""
    whole = ["model.weights=none", "train.freeze_backbone=false", "train.fine_tune.epochs=0"]
    check_run(tmp_path, name, FAMILIES[name], whole)


def test_what_ends_early_trains_on_kept_features_and_is_published(tmp_path: Path) -> None:
    """Head and last convolution of a part of MobileNet: two stages on features, and the same checks."""
    weights = tmp_path / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(weights)
    part = ["model.last_layer=conv_pw_6_relu", f"model.weights={weights}"]
    check_run(tmp_path, "MobileNet", 32, [*part, "train.fine_tune.epochs=1", "train.fine_tune.unfreeze=1"])


def check_run(tmp_path: Path, name: str, size: int, extras: list[str]) -> None:
    """Train for an epoch a stage, and look at what is published."""
    backbone = find_backbone(name)
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
