"""Keras's applications as backbones: an entry holds a network's facts, its files of ImageNet weights and checksums.

The sizes are those the ImageNet weights were made at; the checksums are in Keras's source.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.networks.backbone import Backbone, Shape
from pipeline.networks.imagenet_files import ImageNetFile

if TYPE_CHECKING:  # the recipe brings pydantic
    from pipeline.recipe.preprocessing_modes import Mode

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_EFFICIENTNET = "https://storage.googleapis.com/keras-applications"
_KERNELS = "weights_tf_dim_ordering_tf_kernels"
_IMAGENET_DEVIATIONS = (0.229, 0.224, 0.225)  # of red, green and blue, as Keras's EfficientNet has them
# Keras names a file with the classification layers as the one without, but for this part.
_WITHOUT_TOP = re.compile(r"[_-]no[_-]?top(_v2)?(?=\.h5$)")


def rescale_as_published(network: Any) -> None:
    """Give EfficientNet B0 to B7 the normalisation that their published weights were trained with.

    Keras adds a Rescaling layer by 1/sqrt(standard deviation) when it is told `weights="imagenet"` and not otherwise;
    here the variance of the Normalization layer takes it in, so that one graph serves every kind of weights.

    Args:
        network: a Keras EfficientNet with its published weights loaded.
    """
    from keras import layers

    layer = next(layer for layer in network.layers if isinstance(layer, layers.Normalization))
    mean, variance, *count = layer.get_weights()
    layer.set_weights([mean, variance * np.array(_IMAGENET_DEVIATIONS, variance.dtype), *count])
    layer.finalize_state()


def _keras_application(
    name: str,
    preprocessing: Mode,
    input_size: int,
    min_size: int,
    parameters: int,
    path: str,
    checksum: str | None,
    classifier_checksum: str | None,
    *,
    site: str = _KERAS,
    adapt: Callable[[Any], None] | None = None,
) -> Backbone:
    """Return an entry.

    Args:
        name: Keras's.
        preprocessing: as Keras's `preprocess_input` of the network does it.
        input_size: height and width that the weights were made at.
        min_size: smallest height and width.
        parameters: without classification layers.
        path: of the weights without classification layers, below `site`.
        checksum: of that file, md5 or sha256.
        classifier_checksum: of the file with classification layers.
        site: start of the URL.
        adapt: what published weights need besides.
    """

    def build(shape: Shape) -> Any:
        import keras

        return getattr(keras.applications, name)(include_top=False, weights=None, input_shape=shape)

    def build_on(shape: Shape, tensor: Any) -> Any:
        import keras

        network = getattr(keras.applications, name)
        return network(include_top=False, weights=None, input_shape=shape, input_tensor=tensor)

    def build_classifier() -> Any:
        import keras

        # Without an activation the output is logits, which `explain` starts from.
        return getattr(keras.applications, name)(include_top=True, weights=None, classifier_activation=None)

    return Backbone(
        name,
        preprocessing,
        input_size,
        min_size,
        parameters,
        build,
        weights=ImageNetFile(f"{site}/{path}", checksum),
        classifier_weights=ImageNetFile(f"{site}/{_WITHOUT_TOP.sub('', path)}", classifier_checksum),
        build_on=build_on,
        build_classifier=build_classifier,
        adapt=adapt,
    )


KERAS_APPLICATIONS: tuple[Backbone, ...] = (
    _keras_application(
        "ResNet50",
        "caffe",
        224,
        32,
        23_587_712,
        f"resnet/resnet50_{_KERNELS}_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
        "2cb95161c43110f7111970584f804107",
    ),
    _keras_application(
        "ResNet101",
        "caffe",
        224,
        32,
        42_658_176,
        f"resnet/resnet101_{_KERNELS}_notop.h5",
        "88cf7a10940856eca736dc7b7e228a21",
        "f1aeb4b969a6efcfb50fad2f0c20cfc5",
    ),
    _keras_application(
        "ResNet152",
        "caffe",
        224,
        32,
        58_370_944,
        f"resnet/resnet152_{_KERNELS}_notop.h5",
        "ee4c566cf9a93f14d82f913c2dc6dd0c",
        "100835be76be38e30d865e96f2aaae62",
    ),
    _keras_application(
        "ResNet50V2",
        "tf",
        224,
        32,
        23_564_800,
        f"resnet/resnet50v2_{_KERNELS}_notop.h5",
        "fac2f116257151a9d068a22e544a4917",
        "3ef43a0b657b3be2300d5770ece849e0",
    ),
    _keras_application(
        "ResNet101V2",
        "tf",
        224,
        32,
        42_626_560,
        f"resnet/resnet101v2_{_KERNELS}_notop.h5",
        "c0ed64b8031c3730f411d2eb4eea35b5",
        "6343647c601c52e1368623803854d971",
    ),
    _keras_application(
        "ResNet152V2",
        "tf",
        224,
        32,
        58_331_648,
        f"resnet/resnet152v2_{_KERNELS}_notop.h5",
        "ed17cf2e0169df9d443503ef94b23b33",
        "a49b44d1979771252814e80f8ec446f9",
    ),
    _keras_application(
        "VGG16",
        "caffe",
        224,
        32,
        14_714_688,
        f"vgg16/vgg16_{_KERNELS}_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
        "64373286793e3c8b2b4e3219cbf3544b",
    ),
    _keras_application(
        "VGG19",
        "caffe",
        224,
        32,
        20_024_384,
        f"vgg19/vgg19_{_KERNELS}_notop.h5",
        "253f8cb515780f3b799900260a226db6",
        "cbe5617147190e668d6c5d5026f83318",
    ),
    _keras_application(
        "Xception",
        "tf",
        299,
        71,
        20_861_480,
        f"xception/xception_{_KERNELS}_notop.h5",
        "b0042744bf5b25fce3cb969f33bebb97",
        "0a58e3b7378bc2990ea3b43d5981f1f6",
    ),
    _keras_application(
        "InceptionV3",
        "tf",
        299,
        75,
        21_802_784,
        f"inception_v3/inception_v3_{_KERNELS}_notop.h5",
        "bcbd6486424b2319ff4ef7d526e38f63",
        "9a0d58056eeedaa3f26cb7ebd46da564",
    ),
    _keras_application(
        "InceptionResNetV2",
        "tf",
        299,
        75,
        54_336_736,
        f"inception_resnet_v2/inception_resnet_v2_{_KERNELS}_notop.h5",
        "d19885ff4a710c122648d3b5c3b684e4",
        "e693bd0210a403b3192acc6073ad2e96",
    ),
    _keras_application("MobileNet", "tf", 224, 32, 3_228_864, "mobilenet/mobilenet_1_0_224_tf_no_top.h5", None, None),
    _keras_application(
        "MobileNetV2", "tf", 224, 32, 2_257_984, f"mobilenet_v2/mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", None, None
    ),
    _keras_application(
        "MobileNetV3Small",
        "none",
        224,
        32,
        939_120,
        "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
        "8768d4c2e7dee89b9d02b2d03d65d862",
    ),
    _keras_application(
        "MobileNetV3Large",
        "none",
        224,
        32,
        2_996_352,
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
        "59e551e166be033d707958cf9e29a6a7",
    ),
    _keras_application(
        "DenseNet121",
        "torch",
        224,
        32,
        7_037_504,
        f"densenet/densenet121_{_KERNELS}_notop.h5",
        "30ee3e1110167f948a6b9946edeeb738",
        "9d60b8095a5708f2dcce2bca79d332c7",
    ),
    _keras_application(
        "DenseNet169",
        "torch",
        224,
        32,
        12_642_880,
        f"densenet/densenet169_{_KERNELS}_notop.h5",
        "b8c4d4c20dd625c148057b9ff1c1176b",
        "d699b8f76981ab1b30698df4c175e90b",
    ),
    _keras_application(
        "DenseNet201",
        "torch",
        224,
        32,
        18_321_984,
        f"densenet/densenet201_{_KERNELS}_notop.h5",
        "c13680b51ded0fb44dff2d8f86ac8bb1",
        "1ceb130c1ea1b78c3bf6114dbdfd8807",
    ),
    _keras_application(
        "NASNetMobile",
        "tf",
        224,
        32,
        4_269_716,
        "nasnet/NASNet-mobile-no-top.h5",
        "1ed92395b5b598bdda52abe5c0dbfd63",
        "020fb642bf7360b370c678b08e0adf61",
    ),
    _keras_application(
        "NASNetLarge",
        "tf",
        331,
        32,
        84_916_818,
        "nasnet/NASNet-large-no-top.h5",
        "d81d89dc07e6e56530c4e77faddd61b5",
        "11577c9a518f0070763c2b964a382f17",
    ),
    _keras_application(
        "EfficientNetB0",
        "none",
        224,
        32,
        4_049_571,
        "efficientnetb0_notop.h5",
        "50bc09e76180e00e4465e1a485ddc09d",
        "902e53a9f72be733fc0bcb005b3ebbac",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetB1",
        "none",
        240,
        32,
        6_575_239,
        "efficientnetb1_notop.h5",
        "74c4e6b3e1f6a1eea24c589628592432",
        "1d254153d4ab51201f1646940f018540",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetB2",
        "none",
        260,
        32,
        7_768_569,
        "efficientnetb2_notop.h5",
        "111f8e2ac8aa800a7a99e3239f7bfb39",
        "b15cce36ff4dcbd00b6dd88e7857a6ad",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetB3",
        "none",
        300,
        32,
        10_783_535,
        "efficientnetb3_notop.h5",
        "af6d107764bb5b1abb91932881670226",
        "ffd1fdc53d0ce67064dc6a9c7960ede0",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetB4",
        "none",
        380,
        32,
        17_673_823,
        "efficientnetb4_notop.h5",
        "ebc24e6d6c33eaebbd558eafbeedf1ba",
        "18c95ad55216b8f92d7e70b3a046e2fc",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetB5",
        "none",
        456,
        32,
        28_513_527,
        "efficientnetb5_notop.h5",
        "38879255a25d3c92d5e44e04ae6cec6f",
        "ace28f2a6363774853a83a0b21b9421a",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetB6",
        "none",
        528,
        32,
        40_960_143,
        "efficientnetb6_notop.h5",
        "9ecce42647a20130c1f39a5d4cb75743",
        "165f6e37dce68623721b423839de8be5",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetB7",
        "none",
        600,
        32,
        64_097_687,
        "efficientnetb7_notop.h5",
        "cbcfe4450ddf6f3ad90b1b398090fe4a",
        "8c03f828fec3ef71311cd463b6759d99",
        adapt=rescale_as_published,
        site=_EFFICIENTNET,
    ),
    _keras_application(
        "EfficientNetV2B0",
        "none",
        224,
        32,
        5_919_312,
        "efficientnet_v2/efficientnetv2-b0_notop.h5",
        "893217f2bb855e2983157299931e43ff",
        "21ecbf6da12460d5c40bb2f29ceb2188",
    ),
    _keras_application(
        "EfficientNetV2B1",
        "none",
        240,
        32,
        6_931_124,
        "efficientnet_v2/efficientnetv2-b1_notop.h5",
        "0e80663031ca32d657f9caa404b6ec37",
        "069f0534ff22adf035c89e2d9547a9dc",
    ),
    _keras_application(
        "EfficientNetV2B2",
        "none",
        260,
        32,
        8_769_374,
        "efficientnet_v2/efficientnetv2-b2_notop.h5",
        "1dfe2e7a5d45b6632553a8961ea609eb",
        "424e49f28180edbde1e94797771950a7",
    ),
    _keras_application(
        "EfficientNetV2B3",
        "none",
        300,
        32,
        12_930_622,
        "efficientnet_v2/efficientnetv2-b3_notop.h5",
        "f6abf7b5849ac99a89b50dd3fd532856",
        "1f1fc43bd98a6e4fd8fdfd551e02c7a0",
    ),
    _keras_application(
        "EfficientNetV2S",
        "none",
        384,
        32,
        20_331_360,
        "efficientnet_v2/efficientnetv2-s_notop.h5",
        "af0682fb74e8c54910f2d4393339c070",
        "e1d88a8495beba45748fedd0cecbe016",
    ),
    _keras_application(
        "EfficientNetV2M",
        "none",
        480,
        32,
        53_150_388,
        "efficientnet_v2/efficientnetv2-m_notop.h5",
        "1b8dc055df72dde80d614482840fe342",
        "a3bf6aa3276309f4fc6a34aa114c95cd",
    ),
    _keras_application(
        "EfficientNetV2L",
        "none",
        480,
        32,
        117_746_848,
        "efficientnet_v2/efficientnetv2-l_notop.h5",
        "b0b66b5c863aef5b46e8608fe1711615",
        "27e6d408b53c7ebc868fefa357689935",
    ),
    _keras_application(
        "ConvNeXtTiny",
        "none",
        224,
        32,
        27_820_128,
        "convnext/convnext_tiny_notop.h5",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
    ),
    _keras_application(
        "ConvNeXtSmall",
        "none",
        224,
        32,
        49_454_688,
        "convnext/convnext_small_notop.h5",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
    ),
    _keras_application(
        "ConvNeXtBase",
        "none",
        224,
        32,
        87_566_464,
        "convnext/convnext_base_notop.h5",
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
    ),
    _keras_application(
        "ConvNeXtLarge",
        "none",
        224,
        32,
        196_230_336,
        "convnext/convnext_large_notop.h5",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
    ),
    _keras_application(
        "ConvNeXtXLarge",
        "none",
        224,
        32,
        348_147_968,
        "convnext/convnext_xlarge_notop.h5",
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
    ),
)
