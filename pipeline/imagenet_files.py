"""Where Keras publishes ImageNet weights without classification layers, and the checksums in its source."""

from __future__ import annotations

from dataclasses import dataclass

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_EFFICIENTNET = "https://storage.googleapis.com/keras-applications"
_KERNELS = "weights_tf_dim_ordering_tf_kernels"


@dataclass(frozen=True, slots=True)
class ImageNetFile:
    """A file of weights.

    Attributes:
        url: where it comes from.
        checksum: md5 (32 hex digits) or sha256 (64), as Keras has it; None where Keras has none.
    """

    url: str
    checksum: str | None

    @property
    def name(self) -> str:
        """The file's name, in the cache too."""
        # Keras keeps these two under names of its own.
        return {
            "NASNet-mobile-no-top.h5": "nasnet_mobile_no_top.h5",
            "NASNet-large-no-top.h5": "nasnet_large_no_top.h5",
        }.get(self.url.rsplit("/", 1)[1], self.url.rsplit("/", 1)[1])

    @property
    def algorithm(self) -> str:
        """What made the checksum: "md5" or "sha256"."""
        return "sha256" if self.checksum and len(self.checksum) == 64 else "md5"


def _at_keras(path: str, checksum: str | None) -> ImageNetFile:
    return ImageNetFile(f"{_KERAS}/{path}", checksum)


def _efficientnet(number: int, checksum: str) -> ImageNetFile:
    return ImageNetFile(f"{_EFFICIENTNET}/efficientnetb{number}_notop.h5", checksum)


IMAGENET_FILES: dict[str, ImageNetFile] = {
    "ResNet50": _at_keras(f"resnet/resnet50_{_KERNELS}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"),
    "ResNet101": _at_keras(f"resnet/resnet101_{_KERNELS}_notop.h5", "88cf7a10940856eca736dc7b7e228a21"),
    "ResNet152": _at_keras(f"resnet/resnet152_{_KERNELS}_notop.h5", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "ResNet50V2": _at_keras(f"resnet/resnet50v2_{_KERNELS}_notop.h5", "fac2f116257151a9d068a22e544a4917"),
    "ResNet101V2": _at_keras(f"resnet/resnet101v2_{_KERNELS}_notop.h5", "c0ed64b8031c3730f411d2eb4eea35b5"),
    "ResNet152V2": _at_keras(f"resnet/resnet152v2_{_KERNELS}_notop.h5", "ed17cf2e0169df9d443503ef94b23b33"),
    "VGG16": _at_keras(f"vgg16/vgg16_{_KERNELS}_notop.h5", "6d6bbae143d832006294945121d1f1fc"),
    "VGG19": _at_keras(f"vgg19/vgg19_{_KERNELS}_notop.h5", "253f8cb515780f3b799900260a226db6"),
    "Xception": _at_keras(f"xception/xception_{_KERNELS}_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
    "InceptionV3": _at_keras(f"inception_v3/inception_v3_{_KERNELS}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"),
    "InceptionResNetV2": _at_keras(
        f"inception_resnet_v2/inception_resnet_v2_{_KERNELS}_notop.h5", "d19885ff4a710c122648d3b5c3b684e4"
    ),
    "MobileNet": _at_keras("mobilenet/mobilenet_1_0_224_tf_no_top.h5", None),
    "MobileNetV2": _at_keras(f"mobilenet_v2/mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", None),
    "MobileNetV3Small": _at_keras(
        "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", "d3e8ec802a04aa4fc771ee12a9a9b836"
    ),
    "MobileNetV3Large": _at_keras(
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", "07fb09a5933dd0c8eaafa16978110389"
    ),
    "DenseNet121": _at_keras(f"densenet/densenet121_{_KERNELS}_notop.h5", "30ee3e1110167f948a6b9946edeeb738"),
    "DenseNet169": _at_keras(f"densenet/densenet169_{_KERNELS}_notop.h5", "b8c4d4c20dd625c148057b9ff1c1176b"),
    "DenseNet201": _at_keras(f"densenet/densenet201_{_KERNELS}_notop.h5", "c13680b51ded0fb44dff2d8f86ac8bb1"),
    "NASNetMobile": _at_keras("nasnet/NASNet-mobile-no-top.h5", "1ed92395b5b598bdda52abe5c0dbfd63"),
    "NASNetLarge": _at_keras("nasnet/NASNet-large-no-top.h5", "d81d89dc07e6e56530c4e77faddd61b5"),
    "EfficientNetB0": _efficientnet(0, "50bc09e76180e00e4465e1a485ddc09d"),
    "EfficientNetB1": _efficientnet(1, "74c4e6b3e1f6a1eea24c589628592432"),
    "EfficientNetB2": _efficientnet(2, "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "EfficientNetB3": _efficientnet(3, "af6d107764bb5b1abb91932881670226"),
    "EfficientNetB4": _efficientnet(4, "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "EfficientNetB5": _efficientnet(5, "38879255a25d3c92d5e44e04ae6cec6f"),
    "EfficientNetB6": _efficientnet(6, "9ecce42647a20130c1f39a5d4cb75743"),
    "EfficientNetB7": _efficientnet(7, "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    "EfficientNetV2B0": _at_keras("efficientnet_v2/efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"),
    "EfficientNetV2B1": _at_keras("efficientnet_v2/efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37"),
    "EfficientNetV2B2": _at_keras("efficientnet_v2/efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb"),
    "EfficientNetV2B3": _at_keras("efficientnet_v2/efficientnetv2-b3_notop.h5", "f6abf7b5849ac99a89b50dd3fd532856"),
    "EfficientNetV2S": _at_keras("efficientnet_v2/efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070"),
    "EfficientNetV2M": _at_keras("efficientnet_v2/efficientnetv2-m_notop.h5", "1b8dc055df72dde80d614482840fe342"),
    "EfficientNetV2L": _at_keras("efficientnet_v2/efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615"),
    "ConvNeXtTiny": _at_keras(
        "convnext/convnext_tiny_notop.h5", "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1"
    ),
    "ConvNeXtSmall": _at_keras(
        "convnext/convnext_small_notop.h5", "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab"
    ),
    "ConvNeXtBase": _at_keras(
        "convnext/convnext_base_notop.h5", "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45"
    ),
    "ConvNeXtLarge": _at_keras(
        "convnext/convnext_large_notop.h5", "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd"
    ),
    "ConvNeXtXLarge": _at_keras(
        "convnext/convnext_xlarge_notop.h5", "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05"
    ),
}
