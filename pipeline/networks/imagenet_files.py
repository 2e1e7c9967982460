"""Where Keras publishes ImageNet weights, with and without classification layers, and the checksums in its source."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_EFFICIENTNET = "https://storage.googleapis.com/keras-applications"
_KERNELS = "weights_tf_dim_ordering_tf_kernels"


@dataclass(frozen=True, slots=True)
class ImageNetFile:
    """A file of weights, or of class names.

    Attributes:
        url: where it comes from.
        checksum: md5 (32 hex digits) or sha256 (64), as Keras has it; None where Keras has none.
    """

    url: str
    checksum: str | None

    @property
    def name(self) -> str:
        """The file's name, in the cache too."""
        name = self.url.rsplit("/", 1)[1]
        # Keras keeps these under names of its own.
        return name.lower().replace("-", "_") if name.startswith("NASNet") else name

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

# The names of the 1000 classes, in the order of the networks' output: {"0": ["n01440764", "tench"], ...}.
CLASS_INDEX = ImageNetFile(
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "c2c37ea517e94d9795004a39431a14cb",
)

_CLASSIFIER_CHECKSUMS: dict[str, str | None] = {
    "ResNet50": "2cb95161c43110f7111970584f804107",
    "ResNet101": "f1aeb4b969a6efcfb50fad2f0c20cfc5",
    "ResNet152": "100835be76be38e30d865e96f2aaae62",
    "ResNet50V2": "3ef43a0b657b3be2300d5770ece849e0",
    "ResNet101V2": "6343647c601c52e1368623803854d971",
    "ResNet152V2": "a49b44d1979771252814e80f8ec446f9",
    "VGG16": "64373286793e3c8b2b4e3219cbf3544b",
    "VGG19": "cbe5617147190e668d6c5d5026f83318",
    "Xception": "0a58e3b7378bc2990ea3b43d5981f1f6",
    "InceptionV3": "9a0d58056eeedaa3f26cb7ebd46da564",
    "InceptionResNetV2": "e693bd0210a403b3192acc6073ad2e96",
    "MobileNet": None,
    "MobileNetV2": None,
    "MobileNetV3Small": "8768d4c2e7dee89b9d02b2d03d65d862",
    "MobileNetV3Large": "59e551e166be033d707958cf9e29a6a7",
    "DenseNet121": "9d60b8095a5708f2dcce2bca79d332c7",
    "DenseNet169": "d699b8f76981ab1b30698df4c175e90b",
    "DenseNet201": "1ceb130c1ea1b78c3bf6114dbdfd8807",
    "NASNetMobile": "020fb642bf7360b370c678b08e0adf61",
    "NASNetLarge": "11577c9a518f0070763c2b964a382f17",
    "EfficientNetB0": "902e53a9f72be733fc0bcb005b3ebbac",
    "EfficientNetB1": "1d254153d4ab51201f1646940f018540",
    "EfficientNetB2": "b15cce36ff4dcbd00b6dd88e7857a6ad",
    "EfficientNetB3": "ffd1fdc53d0ce67064dc6a9c7960ede0",
    "EfficientNetB4": "18c95ad55216b8f92d7e70b3a046e2fc",
    "EfficientNetB5": "ace28f2a6363774853a83a0b21b9421a",
    "EfficientNetB6": "165f6e37dce68623721b423839de8be5",
    "EfficientNetB7": "8c03f828fec3ef71311cd463b6759d99",
    "EfficientNetV2B0": "21ecbf6da12460d5c40bb2f29ceb2188",
    "EfficientNetV2B1": "069f0534ff22adf035c89e2d9547a9dc",
    "EfficientNetV2B2": "424e49f28180edbde1e94797771950a7",
    "EfficientNetV2B3": "1f1fc43bd98a6e4fd8fdfd551e02c7a0",
    "EfficientNetV2S": "e1d88a8495beba45748fedd0cecbe016",
    "EfficientNetV2M": "a3bf6aa3276309f4fc6a34aa114c95cd",
    "EfficientNetV2L": "27e6d408b53c7ebc868fefa357689935",
    "ConvNeXtTiny": "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
    "ConvNeXtSmall": "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
    "ConvNeXtBase": "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
    "ConvNeXtLarge": "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
    "ConvNeXtXLarge": "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
}

# With the classification layers; Keras names them as those without, but for this part.
_WITHOUT_TOP = re.compile(r"[_-]no[_-]?top(_v2)?(?=\.h5$)")
CLASSIFIER_FILES = {
    name: ImageNetFile(_WITHOUT_TOP.sub("", file.url), _CLASSIFIER_CHECKSUMS[name])
    for name, file in IMAGENET_FILES.items()
}
