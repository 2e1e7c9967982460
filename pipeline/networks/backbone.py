"""A backbone: the facts of one network that training, export and explanations ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.networks.imagenet_files import ImageNetFile
from pipeline.networks.preprocessing import preprocess

if TYPE_CHECKING:  # the recipe brings pydantic
    from pipeline.recipe.preprocessing_settings import Preprocessing

HeadKind = Literal["gap", "flatten-dense"]
Shape = tuple[int, int, int]  # height, width, channels
# layer, its input, its output, the gradient of its output -> the gradient of its input
Rule = Callable[[Any, Any, Any, Any], Any]

LOGITS = "logits"
HIDDEN = "hidden"  # the flatten-dense head's first hidden layer; the next is hidden_2
HIDDEN_UNITS = (1024,)  # the lecture's flatten-dense head


def convolutions(layers: Sequence[Any]) -> list[int]:
    """Return the positions of convolutions: the blocks of a convolutional network."""
    from keras.layers import Conv2D, DepthwiseConv2D, SeparableConv2D

    return [i for i, layer in enumerate(layers) if isinstance(layer, Conv2D | DepthwiseConv2D | SeparableConv2D)]


def unchanged(features: Any) -> Any:
    """Return features as they are."""
    return features


def no_rules() -> Mapping[type, Rule]:
    """Return no saliency rules."""
    return {}


@dataclass(frozen=True, slots=True)
class Backbone:
    """One network without its classification layers.

    Attributes:
        name: as in a recipe.
        preprocessing: of its input.
        input_size: default height and width, pixels.
        min_size: smallest height and width, pixels.
        parameters: how many numbers it holds, for RGB images; its head's are not counted.
        build: input shape -> Keras model from images to the last feature map, weights random.
        build_on: input shape, symbolic images -> the same from the images' own input on; None: not possible.
        weights: the published file of ImageNet weights; None for a network that is trained from scratch.
        classifier_weights: the same with the classification layers of `build_classifier`.
        build_classifier: returns the published network with its own classification layers, to logits.
        adapt: changes a network after published weights were loaded into it.
        head: the kind of head where the recipe does not choose.
        hidden_units: widths of the flatten-dense head's hidden layers.
        finish: layers between pooled features and the classification layer of a gap head.
        saliency_rules: the gradients of layers in `finish` that pipeline/networks/saliency.py has no rule for.
        blocks: positions in a list of layers where a block starts that `train.fine_tune.unfreeze` can count.
    """

    name: str
    preprocessing: Preprocessing
    input_size: int
    min_size: int
    parameters: int
    build: Callable[[Shape], Any]
    build_on: Callable[[Shape, Any], Any] | None = None
    weights: ImageNetFile | None = None
    classifier_weights: ImageNetFile | None = None
    build_classifier: Callable[[], Any] | None = None
    adapt: Callable[[Any], None] | None = None
    head: HeadKind = "gap"
    hidden_units: tuple[int, ...] = HIDDEN_UNITS
    finish: Callable[[Any], Any] = unchanged
    saliency_rules: Callable[[], Mapping[type, Rule]] = no_rules
    blocks: Callable[[Sequence[Any]], list[int]] = convolutions

    @property
    def imagenet(self) -> bool:
        """True if ImageNet weights are published for it."""
        return self.weights is not None

    @property
    def repeats_grey(self) -> bool:
        """True if it takes grey images by repeating their channel: ImageNet networks are made for three."""
        return self.imagenet and self.build_on is not None

    def takes(self, channels: int) -> bool:
        """Return whether images may have so many channels."""
        return channels == 3 or not self.imagenet or self.repeats_grey

    def preprocess(self, images: Any) -> Any:
        """Return pixels 0-255, float32, as the network takes them."""
        return preprocess(images, self.preprocessing)

    def last_blocks(self, layers: Sequence[Any], unfreeze: int | str) -> frozenset[str]:
        """Return the names of the layers of the last blocks, without batch norm layers.

        Args:
            layers: the backbone's, in order.
            unfreeze: how many blocks, or "all" for every layer.
        """
        from keras.layers import BatchNormalization

        starts = self.blocks(layers) or [i for i, layer in enumerate(layers) if layer.weights]
        start = 0 if unfreeze == "all" or not starts else starts[-min(int(unfreeze), len(starts))]
        return frozenset(layer.name for layer in layers[start:] if not isinstance(layer, BatchNormalization))

    def pool(self, features: Any) -> Any:
        """Return the mean of a feature map over its rows and columns, shape (batch, channels): the embedding."""
        from keras import ops

        return ops.mean(features, axis=(1, 2))

    def add_head(self, features: Any, kind: HeadKind, *, num_classes: int, dropout: float) -> Any:
        """Return the logits of a new head on a feature map, symbolic, shape (batch, classes).

        Args:
            features: the feature map, symbolic.
            kind: "gap" pools it; "flatten-dense" puts dense layers of `hidden_units` on it.
            num_classes: width of the last layer.
            dropout: share of features that training drops.
        """
        from keras import layers

        if kind == "gap":
            x = self.finish(layers.GlobalAveragePooling2D(name="pool")(features))
            x = layers.Dropout(dropout, name="dropout")(x)
        else:
            x = layers.Flatten(name="flatten")(features)
            for i, units in enumerate(self.hidden_units):
                suffix = "" if i == 0 else f"_{i + 1}"
                x = layers.Dense(units, activation="relu", name=f"{HIDDEN}{suffix}")(x)
                x = layers.Dropout(dropout, name=f"dropout{suffix}")(x)
        return layers.Dense(num_classes, name=LOGITS)(x)
