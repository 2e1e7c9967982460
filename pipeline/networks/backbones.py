"""The networks that a classifier can be built on, by Keras's own names, and what each wants of its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import RecipeError
from pipeline.networks.classic_nets import (
    build_alexnet,
    build_googlenet,
    build_lenet,
    build_mnist_cnn,
    build_small_resnet,
)

# How a network's weights expect 0-255 RGB pixels to arrive (keras.applications.imagenet_utils.preprocess_input):
# "caffe" is BGR minus the ImageNet mean, "tf" is [-1, 1], "torch" is ImageNet-normalised, "none" is done inside.
Preprocessing = Literal["caffe", "tf", "torch", "none"]
Shape = tuple[int, int, int]  # height, width, channels

HIDDEN_UNITS = (1024,)  # the lecture's flatten-dense head


@dataclass(frozen=True, slots=True)
class Backbone:
    """One network without its classification layers.

    Attributes:
        name: as in a recipe.
        preprocessing: what its input must look like.
        input_size: default height and width, pixels.
        min_size: smallest height and width, pixels.
        parameters: how many numbers it holds, for RGB images; its head's are not counted.
        build: input shape -> Keras model from images to the last feature map, weights random.
        imagenet: whether Keras offers ImageNet weights for it.
        head: what stands on it when the recipe does not say: "gap" or "flatten-dense".
        hidden_units: widths of the flatten-dense head's hidden layers.
    """

    name: str
    preprocessing: Preprocessing
    input_size: int
    min_size: int
    parameters: int
    build: Callable[[Shape], Any]
    imagenet: bool = True
    head: Literal["gap", "flatten-dense"] = "gap"
    hidden_units: tuple[int, ...] = HIDDEN_UNITS

    def takes(self, channels: int) -> bool:
        """Whether images may have so many channels: ImageNet networks are made for three."""
        return channels == 3 or not self.imagenet


def find_backbone(name: str) -> Backbone:
    """Return a backbone by name.

    Raises:
        RecipeError: if there is none of this name.
    """
    if name not in BACKBONES:
        raise RecipeError(f"model.backbone: expected one of {', '.join(sorted(BACKBONES))}. Received: {name!r}")
    return BACKBONES[name]


def _keras_application(name: str) -> Callable[[Shape], Any]:
    def build(shape: Shape) -> Any:
        import keras

        return getattr(keras.applications, name)(include_top=False, weights=None, input_shape=shape)

    return build


# Name, preprocessing, default size, smallest size, parameters. The sizes are those the ImageNet weights were made at.
_KERAS_APPLICATIONS: tuple[tuple[str, Preprocessing, int, int, int], ...] = (
    ("ResNet50", "caffe", 224, 32, 23_587_712),
    ("ResNet101", "caffe", 224, 32, 42_658_176),
    ("ResNet152", "caffe", 224, 32, 58_370_944),
    ("ResNet50V2", "tf", 224, 32, 23_564_800),
    ("ResNet101V2", "tf", 224, 32, 42_626_560),
    ("ResNet152V2", "tf", 224, 32, 58_331_648),
    ("VGG16", "caffe", 224, 32, 14_714_688),
    ("VGG19", "caffe", 224, 32, 20_024_384),
    ("Xception", "tf", 299, 71, 20_861_480),
    ("InceptionV3", "tf", 299, 75, 21_802_784),
    ("InceptionResNetV2", "tf", 299, 75, 54_336_736),
    ("MobileNet", "tf", 224, 32, 3_228_864),
    ("MobileNetV2", "tf", 224, 32, 2_257_984),
    ("MobileNetV3Small", "none", 224, 32, 939_120),
    ("MobileNetV3Large", "none", 224, 32, 2_996_352),
    ("DenseNet121", "torch", 224, 32, 7_037_504),
    ("DenseNet169", "torch", 224, 32, 12_642_880),
    ("DenseNet201", "torch", 224, 32, 18_321_984),
    ("NASNetMobile", "tf", 224, 32, 4_269_716),
    ("NASNetLarge", "tf", 331, 32, 84_916_818),
    ("EfficientNetB0", "none", 224, 32, 4_049_571),
    ("EfficientNetB1", "none", 240, 32, 6_575_239),
    ("EfficientNetB2", "none", 260, 32, 7_768_569),
    ("EfficientNetB3", "none", 300, 32, 10_783_535),
    ("EfficientNetB4", "none", 380, 32, 17_673_823),
    ("EfficientNetB5", "none", 456, 32, 28_513_527),
    ("EfficientNetB6", "none", 528, 32, 40_960_143),
    ("EfficientNetB7", "none", 600, 32, 64_097_687),
    ("EfficientNetV2B0", "none", 224, 32, 5_919_312),
    ("EfficientNetV2B1", "none", 240, 32, 6_931_124),
    ("EfficientNetV2B2", "none", 260, 32, 8_769_374),
    ("EfficientNetV2B3", "none", 300, 32, 12_930_622),
    ("EfficientNetV2S", "none", 384, 32, 20_331_360),
    ("EfficientNetV2M", "none", 480, 32, 53_150_388),
    ("EfficientNetV2L", "none", 480, 32, 117_746_848),
    ("ConvNeXtTiny", "none", 224, 32, 27_820_128),
    ("ConvNeXtSmall", "none", 224, 32, 49_454_688),
    ("ConvNeXtBase", "none", 224, 32, 87_566_464),
    ("ConvNeXtLarge", "none", 224, 32, 196_230_336),
    ("ConvNeXtXLarge", "none", 224, 32, 348_147_968),
)

_FROM_SCRATCH = (
    Backbone("ResNet", "tf", 80, 32, 172_816, build_small_resnet, imagenet=False),
    Backbone("LeNet", "tf", 28, 16, 2_872, build_lenet, imagenet=False, head="flatten-dense", hidden_units=(120, 84)),
    Backbone(
        "MnistCNN", "tf", 28, 16, 19_392, build_mnist_cnn, imagenet=False, head="flatten-dense", hidden_units=(128,)
    ),
    Backbone(
        "AlexNet",
        "tf",
        227,
        67,
        3_751_328,
        build_alexnet,
        imagenet=False,
        head="flatten-dense",
        hidden_units=(4096, 4096),
    ),
    Backbone("GoogLeNet", "tf", 224, 32, 5_995_392, build_googlenet, imagenet=False),
)

BACKBONES: dict[str, Backbone] = {
    name: Backbone(name, preprocessing, size, least, parameters, _keras_application(name))
    for name, preprocessing, size, least, parameters in _KERAS_APPLICATIONS
} | {backbone.name: backbone for backbone in _FROM_SCRATCH}
