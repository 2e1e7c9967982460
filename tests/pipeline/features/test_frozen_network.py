"""pipeline/features/frozen_network.py: OpenVINO's features are Keras's, or Keras computes them."""

from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.features.frozen_network import ExportedNetwork, FrozenNetwork
from pipeline.networks.backbone import preprocess


def small_network() -> Any:
    """A network of a few layers, batch normalisation among them."""
    keras.utils.set_random_seed(2)
    images = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, activation="swish")(images)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


def test_features_are_keras_s_for_any_batch_and_type(caplog: pytest.LogCaptureFixture) -> None:
    """Pixels as bytes or numbers, one or many: what the preprocessed network gives, as near as the precision allows."""
    network = small_network()
    frozen = FrozenNetwork(ExportedNetwork(network, "caffe"))
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), np.uint8)
    expected = np.asarray(network(preprocess(images.astype(np.float32), "caffe"), training=False))
    allowed = 1e-4 if frozen.runtime.endswith(" float32") else 0.02

    for given in (images, images.astype(np.float32), images[:1]):
        before = given.copy()
        received = frozen.compute(given)
        np.testing.assert_allclose(received, expected[: len(given)], rtol=0, atol=allowed * expected.max())
        np.testing.assert_array_equal(before, given)
    assert "computed by Keras" not in caplog.text
    assert frozen.runtime.startswith(f"openvino {version('openvino')} ")


def test_what_openvino_does_not_confirm_is_computed_by_keras(caplog: pytest.LogCaptureFixture) -> None:
    """A network whose features cannot be compared is left to Keras, and the log says so."""
    network = small_network()
    network.layers[1].kernel.assign(network.layers[1].kernel * np.nan)

    features = FrozenNetwork(ExportedNetwork(network, "none")).compute(np.ones((2, 12, 12, 3), np.uint8))

    assert np.isnan(features).all()
    assert "OpenVINO at float32 is not used for features: inf from Keras's" in caplog.text
    assert "Features are computed by Keras, which is slower" in caplog.text
