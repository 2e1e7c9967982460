"""Exported networks on both engines: the Keras model's probabilities and each other's saliency, to four digits."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from contract.model import InputSpec, Label, ModelContract, build_document
from engine.loading import load_engine
from pipeline.networks.backbone import LOGITS, preprocess
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import Weights
from pipeline.publishing.export import export_saved_model
from pipeline.recipe.training_settings import Model
from tests.pipeline.networks.test_families import SIZES

CLASSES, TEMPERATURE, SPREAD = 5, 1.37, 4.0
HEADS = {"gap": "cam", "flatten-dense": "grad-cam"}
# A residual network and hidden layers in every test run, all families in the slow tier.
QUICK = {("ResNet", "gap"), ("LeNet", "flatten-dense")}
CASES = [
    pytest.param(name, head, marks=() if (name, head) in QUICK else pytest.mark.slow, id=f"{name}-{head}")
    for name in SIZES
    for head in HEADS
]


def build(name: str, head: str, images: np.ndarray) -> tuple[Classifier, np.ndarray]:
    """Build a network whose logits spread, so that its probabilities tell images apart; return it and its logits."""
    keras.utils.set_random_seed(1)
    settings = Model.model_validate(
        {"backbone": name, "weights": "none", "input_size": images.shape[1], "head": head, "dropout": 0.2}
    )
    classifier = build_classifier(settings, Weights("none", None), num_classes=CLASSES, channels=3)
    inputs = preprocess(images.astype(np.float32), classifier.preprocessing)
    layer = classifier.model.get_layer(LOGITS)
    logits_of = keras.Model(classifier.model.input, layer.output)
    layer.kernel.assign(layer.kernel * (SPREAD / np.abs(np.asarray(logits_of(inputs, training=False))).max()))
    return classifier, np.asarray(logits_of(inputs, training=False), np.float64)


def export(classifier: Classifier, size: int, head: str, directory: Path) -> Path:
    labels = [Label(str(i), str(i)) for i in range(CLASSES)]
    document = build_document(labels, InputSpec(size, size), saliency=HEADS[head], temperature=TEMPERATURE)
    export_saved_model(classifier, ModelContract.from_document(document), directory)
    return directory


def answers(directory: Path, engine: str, images: np.ndarray) -> dict[str, Any]:
    loaded = load_engine(directory, engine=engine, precision="float32")
    try:
        class_index = np.array([-1, 0, CLASSES - 1], np.int32)
        explained = loaded.run("explain", {"images": images, "class_index": class_index})
        return {**loaded.run("serving_default", {"images": images}), "saliency": explained["saliency"]}
    finally:
        loaded.close()


@pytest.mark.parametrize(("name", "head"), CASES)
def test_engines_agree_with_keras(tmp_path: Path, name: str, head: str) -> None:
    """At float32 no probability is 1e-4 from the Keras model's; maps have as many digits in common."""
    size = SIZES[name]
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    classifier, logits = build(name, head, images)
    exponents = np.exp(logits / TEMPERATURE)
    expected = exponents / exponents.sum(axis=1, keepdims=True)

    directory = export(classifier, size, head, tmp_path / "model")
    openvino, tensorflow = answers(directory, "openvino", images), answers(directory, "tensorflow", images)

    assert np.ptp(expected, axis=1).min() > 0.1  # else agreement would mean nothing
    np.testing.assert_allclose(openvino["probabilities"], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(tensorflow["probabilities"], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(openvino["saliency"], tensorflow["saliency"], rtol=0, atol=1e-3)
    keras.backend.clear_session()
