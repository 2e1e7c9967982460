"""pipeline/weights.py: pretrained weights are found and checked, or it is said what to put where."""

from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.backbones import find_backbone
from pipeline.errors import RecipeError, WeightsError
from pipeline.network import build_classifier
from pipeline.recipe import Model
from pipeline.weights import RESNET50_FILE, RESNET50_MD5, find_weights, imagenet_file, load_weights


@pytest.fixture(name="keras_home")
def fixture_keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


def test_unreachable_weights_say_what_to_put_where(keras_home: Path) -> None:
    """Offline, the message names the file, its md5, the folder and the ways round; nothing else is used instead."""
    with pytest.raises(WeightsError) as caught:
        imagenet_file("ResNet50")

    for part in (RESNET50_FILE, RESNET50_MD5, str(keras_home / "models"), "model.weights=FILE", "model.weights=none"):
        assert part in str(caught.value)


def test_cached_file_with_a_wrong_md5_is_not_trusted(keras_home: Path) -> None:
    """A damaged download is fetched again, which offline is the same message."""
    path = keras_home / "models" / RESNET50_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")

    with pytest.raises(WeightsError, match=RESNET50_MD5):
        imagenet_file("ResNet50")


def test_backbone_without_imagenet_weights_is_refused() -> None:
    """The small network has none, and says so."""
    with pytest.raises(RecipeError, match="for ResNet give a weights file"):
        find_weights(find_backbone("ResNet"), "imagenet")


def test_local_file_is_loaded_and_named_by_its_hash(tmp_path: Path) -> None:
    """A weights file ends up in the network, and its sha256 in the provenance."""
    backbone = find_backbone("ResNet")
    path = tmp_path / "mine.weights.h5"
    source = backbone.build((32, 32, 3), None)
    source.save_weights(path)

    weights = find_weights(backbone, str(path))
    settings = Model(backbone="ResNet", weights=str(path), input_size=32)
    classifier = build_classifier(settings, weights, num_classes=2, channels=3)

    assert weights.provenance.startswith("sha256:")
    assert 71 == len(weights.provenance)
    loaded = classifier.backbone_layers[1].get_weights()[0]
    assert np.array_equal(source.layers[1].get_weights()[0], loaded)


def test_file_of_another_network_is_refused(tmp_path: Path) -> None:
    """Weights that do not fit are an error that names file and network."""
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(path)
    network = find_backbone("ResNet").build((32, 32, 3), None)

    with pytest.raises(WeightsError, match=r"other\.weights\.h5 does not fit"):
        load_weights(network, find_weights(find_backbone("ResNet"), str(path)))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A typo in a path is not an unknown keyword."""
    with pytest.raises(WeightsError, match="which is no file"):
        find_weights(find_backbone("ResNet"), str(tmp_path / "nowhere.h5"))


def test_unknown_backbone_lists_the_known() -> None:
    """A misspelt backbone gets the list."""
    with pytest.raises(RecipeError, match=r"expected one of DenseNet121, .*Received: 'ResNet5'"):
        find_backbone("ResNet5")


def test_too_small_input_is_refused() -> None:
    """A backbone's smallest input is checked before Keras fails in its own words."""
    with pytest.raises(RecipeError, match="at least 75 for InceptionV3"):
        build_classifier(
            Model(backbone="InceptionV3", weights="none", input_size=64),
            find_weights(find_backbone("InceptionV3"), "none"),
            num_classes=2,
            channels=3,
        )
