"""Draws the run's own report's pictures: worst test images with heat maps, filters, feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from contract.heatmap import draw_heatmap
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.errors import LostImageError
from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.wrong_labels.label_errors import Found, LikelyError
from pipeline.networks.network import Classifier
from pipeline.report.thumbnails import filter_pictures, jpeg_uri, png_uri, stretch, varied_channels

TOP_LOSSES = 12
_MAX_WRONG_LABELS = 24  # of training and validation images, and of test images
_MAPS = 16


@dataclass(frozen=True)
class WorstImage:
    """A test image that the network is most wrong about.

    Attributes:
        path: below the source.
        label: its true class.
        predicted: the most probable class.
        probability: of `predicted`.
        label_probability: of `label`.
        picture: data URI.
        overlay: data URI of the picture under what speaks for `predicted`, as /v1/explain draws it; None of a
            network without maps.
    """

    path: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    picture: str
    overlay: str | None


@dataclass(frozen=True)
class WrongLabel:
    """An image that is likely labelled wrong.

    Attributes:
        error: the image, the suggested label, the score.
        picture: data URI.
    """

    error: LikelyError
    picture: str


@dataclass(frozen=True)
class FeatureMaps:
    """The channels of one layer with the most variance, as data URIs."""

    layer: str
    shape: tuple[int, ...]
    maps: list[str]


@dataclass(frozen=True)
class Pictures:
    """Pictures of the run's own report; they show images of the data set and do not leave with the model.

    Attributes:
        worst: test images by falling loss.
        filters: kernels of the first convolution.
        example: the image that the feature maps are of, the one with the highest probability of any class.
        features: of a first, a middle and the last layer.
        wrong_labels: likely errors among training and validation images, the surest first.
        wrong_test_labels: the same of test images.
    """

    worst: list[WorstImage]
    filters: FeatureMaps | None
    example: WorstImage
    features: list[FeatureMaps]
    wrong_labels: Sequence[WrongLabel] = ()
    wrong_test_labels: Sequence[WrongLabel] = ()


def draw_pictures(
    classifier: Classifier,
    evaluation: Evaluation,
    rows: Sequence[ManifestRow],
    labels: Sequence[str],
    pixels: Pixels,
    *,
    wrong_labels: Found | None = None,
) -> Pictures:
    """Draw the pictures of a run's report.

    Args:
        classifier: trained.
        evaluation: of these rows.
        rows: the test images.
        labels: class names; position is the class index.
        pixels: decodes the images.
        wrong_labels: images that are likely labelled wrong.
    """
    chosen = evaluation.served[np.arange(len(rows)), evaluation.targets]
    order = np.argsort(chosen, kind="stable")
    worst = [int(i) for i in order[:TOP_LOSSES]]
    best = int(evaluation.served.max(axis=1).argmax())
    drawn = _draw_images(classifier, evaluation, [rows[i] for i in [*worst, best]], [*worst, best], labels, pixels)
    return Pictures(
        worst=drawn[:-1],
        filters=_filters(classifier),
        example=drawn[-1],
        features=_feature_maps(classifier, pixels[rows[best].path]),
        wrong_labels=_draw_wrong(wrong_labels.training, pixels) if wrong_labels else (),
        wrong_test_labels=_draw_wrong(wrong_labels.test, pixels) if wrong_labels else (),
    )


def _draw_images(
    classifier: Classifier,
    evaluation: Evaluation,
    rows: Sequence[ManifestRow],
    places: Sequence[int],
    labels: Sequence[str],
    pixels: Pixels,
) -> list[WorstImage]:
    images = pixels.batch([row.path for row in rows])
    maps: Sequence[Any] = [None] * len(rows)
    if classifier.explained:
        maps = evaluation.functions["explain"](images, np.full(len(rows), -1, np.int32))["saliency"].numpy()
    drawn = []
    for row, place, image, saliency in zip(rows, places, images, maps, strict=True):
        probabilities = evaluation.served[place]
        predicted = int(probabilities.argmax())
        drawn.append(
            WorstImage(
                path=row.path,
                label=row.label,
                predicted=labels[predicted],
                probability=float(probabilities[predicted]),
                label_probability=float(probabilities[labels.index(row.label)]),
                picture=jpeg_uri(image),
                overlay=None if saliency is None else jpeg_uri(draw_heatmap(image, saliency)),
            )
        )
    return drawn


def _draw_wrong(errors: Sequence[LikelyError], pixels: Pixels) -> list[WrongLabel]:
    drawn = []
    for error in errors[:_MAX_WRONG_LABELS]:
        with suppress(LostImageError):  # an image that training read and that is gone costs its picture alone
            drawn.append(WrongLabel(error, jpeg_uri(pixels.batch([error.row.path])[0])))
    return drawn


def _filters(classifier: Classifier) -> FeatureMaps | None:
    """Return the first convolution's kernels, each stretched to its own range; None without a convolution."""
    # Some networks (ConvNeXt) hold their first convolution inside a Sequential.
    flat = [inner for layer in classifier.backbone_layers for inner in getattr(layer, "layers", [layer])]
    first = [layer for layer in flat if isinstance(layer, keras.layers.Conv2D)][:1]
    if not first:
        return None
    kernel = np.asarray(first[0].kernel, np.float32)
    return FeatureMaps(first[0].name, tuple(kernel.shape), filter_pictures(kernel, 2 * _MAPS))


def _feature_maps(classifier: Classifier, image: NDArray[np.uint8]) -> list[FeatureMaps]:
    """Return the feature maps of one image after a first, a middle and the last layer of the backbone."""
    layers = _convolutions(classifier)
    if not layers:
        return []
    first, middle = layers[0], layers[len(layers) // 2]
    outputs = {layer.name: layer.output for layer in (first, middle)}
    if len(classifier.feature_map.shape) == 4:
        outputs["last feature map"] = classifier.feature_map
    network = keras.Model(classifier.model.input, list(outputs.values()))
    batch = classifier.backbone.preprocess(image[None].astype(np.float32))
    drawn = []
    for name, values in zip(outputs, network(batch, training=False), strict=True):
        maps = np.asarray(values, np.float32)[0]
        shown = [png_uri(stretch(maps[..., i])) for i in varied_channels(maps, _MAPS)]
        drawn.append(FeatureMaps(name, tuple(maps.shape), shown))
    return drawn


def _convolutions(classifier: Classifier) -> list[Any]:
    return [layer for layer in classifier.backbone_layers if isinstance(layer, keras.layers.Conv2D)]
