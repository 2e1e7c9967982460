"""The classifier: a backbone, a head and the arithmetic between pixels and network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pipeline.errors import RecipeError
from pipeline.networks.backbone import Backbone
from pipeline.networks.backbones import BACKBONES
from pipeline.networks.grey import take_grey
from pipeline.networks.own.backbone import backbone_of, is_own
from pipeline.networks.preprocessing import check_channels
from pipeline.networks.weights import Weights, load_weights
from pipeline.recipe.preprocessing_settings import Preprocessing
from pipeline.recipe.training_settings import Model

OWN = "own"  # the head of a network of the user's own


@dataclass(frozen=True)
class Classifier:
    """A Keras model with the facts that training, export and explanations need.

    Attributes:
        model: from preprocessed float32 images to probabilities; one flat graph, no nested model.
        backbone_layers: the backbone's layers, in order.
        feature_map: symbolic output of the backbone, shape (batch, rows, columns, channels); of a network of the user's
            own without one, the numbers before the layer of classes, shape (batch, numbers).
        backbone: the facts of the network.
        head: "gap" or "flatten-dense", or a published network's own, or the user's.
        auxiliary: symbolic probabilities of further outputs, which training alone uses.
        explained: whether a saliency map can be had.
        source: the bytes of the user's Python file.
    """

    model: Any
    backbone_layers: list[Any]
    feature_map: Any
    backbone: Backbone
    head: str
    auxiliary: tuple[Any, ...] = ()
    explained: bool = True
    source: bytes | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """The form that the model's input must have."""
        return self.backbone.preprocessing

    @property
    def saliency(self) -> str | None:
        """The contract's name for a map of its head: "cam" or "grad-cam"; None where there is no map."""
        if not self.explained:
            return None
        from pipeline.networks.saliency import saliency_method

        return saliency_method(self.head_layers, self.backbone.saliency_rules())

    @property
    def embedding_dimension(self) -> int:
        """The number of pooled features of an image."""
        return int(self.feature_map.shape[-1])

    @property
    def logits(self) -> Any:
        """Symbolic output before the softmax, shape (batch, classes)."""
        return self.model.layers[-1].input

    @cached_property
    def trained_model(self) -> Any:
        """The model with its auxiliary outputs, which shares its layers."""
        import keras

        return keras.Model(self.model.input, [self.model.output, *self.auxiliary]) if self.auxiliary else self.model

    def pool(self, features: Any) -> Any:
        """Return the embedding of features of the shape of `feature_map`."""
        return self.backbone.pool(features) if len(self.feature_map.shape) == 4 else features

    @property
    def head_layers(self) -> list[Any]:
        """The layers from the feature map to the logits, in order."""
        return list(self.model.layers[len(self.backbone_layers) : -1])


def build_classifier(settings: Model, weights: Weights, *, num_classes: int, channels: int) -> Classifier:
    """Build the network of a recipe, its backbone's weights loaded and its head's random.

    Raises:
        RecipeError: if the input is too small for the backbone, or it cannot take grey images, or has no such layer,
            or a network of the user's own cannot be built.
        WeightsError: if the weights do not fit.
    """
    import keras

    from pipeline.networks.own.graph import PROBABILITIES

    backbone = backbone_of(settings)
    if not backbone.takes(channels):
        grey = ", ".join(sorted(name for name, other in BACKBONES.items() if other.takes(channels)))
        raise RecipeError(
            f"data.color: expected rgb for {backbone.name}, which also takes grey images then. Received: {channels} "
            f"channel. Trained from scratch, {grey} take grey as it is"
        )
    if settings.preprocessing is not None:
        backbone = replace(backbone, preprocessing=settings.preprocessing)
    if channels == 1 and backbone.repeats_grey:
        backbone = take_grey(backbone)
    check_channels(backbone.preprocessing, channels)
    size = input_size(settings, backbone)
    if is_own(settings):
        return _build_own(settings, backbone, weights, (size, size, channels), num_classes)
    network = backbone.build((size, size, channels))
    load_weights(network, weights, backbone)
    if settings.last_layer is not None:
        network = _end_with(network, settings.last_layer)
    head = settings.head or backbone.head
    logits = backbone.add_head(network.output, head, num_classes=num_classes, dropout=settings.dropout)
    outputs = keras.layers.Activation("softmax", dtype="float32", name=PROBABILITIES)(logits)
    model = keras.Model(network.input, outputs, name="classifier")
    return Classifier(model, network.layers, network.output, backbone, head)


def _build_own(
    settings: Model, backbone: Backbone, weights: Weights, shape: tuple[int, int, int], num_classes: int
) -> Classifier:
    import keras

    from pipeline.networks.own.build import build_own

    own = build_own(settings, shape, num_classes)
    parts = own.parts
    load_weights(keras.Model(parts.model.input, parts.features, name=backbone.name), weights, backbone)
    return Classifier(
        parts.model,
        parts.backbone_layers,
        parts.features,
        backbone,
        OWN,
        auxiliary=parts.auxiliary,
        explained=parts.explained,
        source=own.source,
    )


def _end_with(network: Any, name: str) -> Any:
    """Return the part of a backbone that ends with one of its layers.

    Raises:
        RecipeError: if there is no such layer, or its output is no feature map.
    """
    import keras

    ends = [layer.name for layer in network.layers if _gives_feature_map(layer)]
    if name not in ends:
        raise RecipeError(
            f"model.last_layer: expected a layer of {network.name} that gives a feature map, such as "
            f"{', '.join(ends[-5:])}. Received: {name!r}"
        )
    return keras.Model(network.input, network.get_layer(name).output, name=network.name)


def _gives_feature_map(layer: Any) -> bool:
    import keras

    is_input = isinstance(layer, keras.layers.InputLayer)
    return not is_input and hasattr(layer.output, "shape") and len(layer.output.shape) == 4


def input_size(settings: Model, backbone: Backbone) -> int:
    """Return the height and width of the input, pixels.

    Raises:
        RecipeError: if it is below the backbone's smallest.
    """
    size = settings.input_size or backbone.input_size
    if size < backbone.min_size:
        raise RecipeError(
            f"model.input_size: expected at least {backbone.min_size} for {backbone.name}. Received: {size}"
        )
    return size
