"""backbones.py: every network that a recipe can name, what it is fed, and what the list says of it."""

import time

import keras
import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.errors import RecipeError
from pipeline.networks.backbones import BACKBONES, find_backbone
from pipeline.networks.network import build_classifier
from pipeline.networks.weights import Weights
from pipeline.recipe.recipe import Model

FROM_SCRATCH = [name for name, backbone in BACKBONES.items() if not backbone.imagenet]
# One of each family in every test run; the rest is slow.
QUICK = {"MobileNet", "VGG16", "ResNet", "LeNet", "MnistCNN", "AlexNet"}
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BACKBONES]


def test_every_keras_application_is_offered() -> None:
    """All networks that this Keras has are there under Keras's own names, and five that it does not have."""
    keras_names = {name for name in dir(keras.applications) if name[0].isupper()}

    assert keras_names == {name for name, backbone in BACKBONES.items() if backbone.imagenet}
    assert {"AlexNet", "GoogLeNet", "LeNet", "MnistCNN", "ResNet"} == set(FROM_SCRATCH)


@pytest.mark.parametrize("name", ALL)
def test_backbone_is_what_the_table_says(name: str) -> None:
    """Parameters are counted right, and the smallest size gives at least one position."""
    backbone = find_backbone(name)

    smallest = backbone.build((backbone.min_size, backbone.min_size, 3))
    # NASNet adds layers where sides are odd.
    usual = backbone.build((backbone.input_size, backbone.input_size, 3)) if name.startswith("NASNet") else smallest

    assert backbone.parameters == usual.count_params()
    assert all(side >= 1 for side in smallest.output.shape[1:3])
    keras.backend.clear_session()


@pytest.mark.parametrize("name", [name for name in BACKBONES if find_backbone(name).imagenet])
def test_default_size_is_keras_own(name: str) -> None:
    """The default input is the one that Keras's documentation or preset gives for the ImageNet weights."""
    sizes = {"Xception": 299, "InceptionV3": 299, "InceptionResNetV2": 299, "NASNetLarge": 331}
    efficientnet = dict(
        zip((f"EfficientNetB{i}" for i in range(8)), (224, 240, 260, 300, 380, 456, 528, 600), strict=True)
    )
    version2 = {"B0": 224, "B1": 240, "B2": 260, "B3": 300, "S": 384, "M": 480, "L": 480}
    sizes |= efficientnet | {f"EfficientNetV2{suffix}": size for suffix, size in version2.items()}

    assert sizes.get(name, 224) == find_backbone(name).input_size


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_networks_from_scratch_take_grey_images(name: str) -> None:
    """One channel is enough for them, and the classifier's probabilities are probabilities."""
    size = find_backbone(name).min_size
    settings = Model(backbone=name, weights="none", input_size=size)

    classifier = build_classifier(settings, Weights("none", None), num_classes=3, channels=1)
    probabilities = np.asarray(classifier.model(np.zeros((2, size, size, 1), np.float32)))

    assert (2, 3) == probabilities.shape
    assert np.allclose(1, probabilities.sum(axis=1))


@pytest.mark.parametrize(
    ("name", "preprocessing"),
    [
        pytest.param("VGG16", None, id="caffe"),
        pytest.param("MobileNetV2", None, id="tf"),
        pytest.param("MobileNetV3Small", None, id="inside"),
        pytest.param("DenseNet121", None, id="torch", marks=pytest.mark.slow),
        pytest.param("MobileNetV2", {"scale": [0.1, 0.2, 0.3], "offset": [1, 2, 3], "color_order": "bgr"}, id="own"),
    ],
)
def test_keras_applications_repeat_grey_images(name: str, preprocessing: object) -> None:
    """With three-channel weights, a grey picture is answered as the same picture in RGB."""
    model = Model.model_validate(
        {"backbone": name, "weights": "none", "input_size": 32, "preprocessing": preprocessing}
    )
    rgb = build_classifier(model, Weights("none", None), num_classes=2, channels=3)
    grey = build_classifier(model, Weights("none", None), num_classes=2, channels=1)
    grey.model.set_weights(rgb.model.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)

    expected = rgb.model(rgb.backbone.preprocess(np.repeat(pixels, 3, axis=-1)), training=False)
    actual = grey.model(grey.backbone.preprocess(pixels.copy()), training=False)

    assert np.allclose(expected, actual, atol=1e-5)


def test_every_keras_application_takes_grey_images() -> None:
    """Every entry is offered for grey."""
    assert all(backbone.takes(1) for backbone in BACKBONES.values())


@pytest.mark.parametrize(
    ("name", "units"),
    [("LeNet", [120, 84]), ("AlexNet", [4096, 4096]), ("MnistCNN", [128]), ("ResNet", [])],
)
def test_head_is_the_papers_own_unless_the_recipe_says_otherwise(name: str, units: list[int]) -> None:
    """Without model.head the dense layers of the paper follow; `gap` and `flatten-dense` can be chosen for all."""
    size = find_backbone(name).min_size
    heads = {
        head: build_classifier(
            Model(backbone=name, weights="none", input_size=size, head=head),  # type: ignore[arg-type]
            Weights("none", None),
            num_classes=2,
            channels=1,
        )
        for head in (None, "gap", "flatten-dense")
    }

    widths = {head: [layer.units for layer in heads[head].head_layers if hasattr(layer, "units")] for head in heads}
    assert [*units, 2] == widths[None]
    assert [2] == widths["gap"]
    assert len(widths["flatten-dense"]) > 1


def test_list_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """`backbones` needs no Keras to list every network with sizes, parameters and preprocessing."""
    start = time.process_time()

    assert 0 == main(["backbones"])

    assert time.process_time() - start < 1
    lines = capsys.readouterr().out.splitlines()
    assert len(BACKBONES) + 1 == len(lines)
    (vgg,) = [line for line in lines if line.startswith("VGG16")]
    assert ["VGG16", "224", "32", "14,714,688", "imagenet", "rgb", "BGR"] == vgg.split()[:7]


def test_a_backbone_can_end_early() -> None:
    """The feature map is that of the named layer, by the same weights, and the later layers are gone."""
    settings = Model(backbone="VGG16", weights="none", input_size=32)
    keras.utils.set_random_seed(1)
    whole = build_classifier(settings, Weights("none", None), num_classes=3, channels=3)
    keras.utils.set_random_seed(1)
    early = build_classifier(
        settings.model_copy(update={"last_layer": "block4_pool"}), Weights("none", None), num_classes=3, channels=3
    )

    assert (None, 2, 2, 512) == early.feature_map.shape
    assert "block4_pool" == early.backbone_layers[-1].name
    image = np.random.default_rng(0).uniform(-100, 100, (1, 32, 32, 3)).astype(np.float32)
    at_pool = keras.Model(whole.model.input, whole.model.get_layer("block4_pool").output)
    ended = keras.Model(early.model.input, early.feature_map)
    np.testing.assert_array_equal(at_pool(image), ended(image))
    keras.backend.clear_session()


@pytest.mark.parametrize("name", ["block6_pool", "input_layer"])
def test_a_layer_that_gives_no_feature_map_is_refused(name: str) -> None:
    """The error names some that do."""
    settings = Model(backbone="VGG16", weights="none", input_size=32, last_layer=name)
    with pytest.raises(RecipeError, match=f"such as .*block5_conv3, block5_pool. Received: '{name}'"):
        build_classifier(settings, Weights("none", None), num_classes=3, channels=3)
