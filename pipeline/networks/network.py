"""The classifier: a backbone, a head and the arithmetic between pixels and network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import RecipeError
from pipeline.networks.backbones import BACKBONES, Backbone, Preprocessing, find_backbone
from pipeline.networks.weights import Weights, load_weights
from pipeline.recipe.training_settings import Model

LOGITS = "logits"
PROBABILITIES = "probabilities"
HIDDEN = "hidden"  # the flatten-dense head's first hidden layer; the next is hidden_2


@dataclass(frozen=True)
class Classifier:
    """A Keras model and what must be known to train, export and explain it.

    Attributes:
        model: from preprocessed float32 images to probabilities; one flat graph, no nested model.
        backbone_layers: the backbone's layers, in order.
        feature_map: symbolic output of the backbone, shape (batch, rows, columns, channels).
        preprocessing: what the model's input must look like.
        head: "gap" or "flatten-dense", or a published network's own.
    """

    model: Any
    backbone_layers: list[Any]
    feature_map: Any
    preprocessing: Preprocessing
    head: str

    @property
    def logits(self) -> Any:
        """Symbolic output before the softmax, shape (batch, classes)."""
        return self.model.get_layer(PROBABILITIES).input

    @property
    def head_layers(self) -> list[Any]:
        """The layers from the feature map to the logits, in order."""
        return list(self.model.layers[len(self.backbone_layers) : -1])


def build_classifier(settings: Model, weights: Weights, *, num_classes: int, channels: int) -> Classifier:
    """Build the network of a recipe, its backbone's weights loaded and its head's random.

    Raises:
        RecipeError: if the input is too small for the backbone, or it cannot take grey images, or has no such layer.
        WeightsError: if the weights do not fit.
    """
    import keras

    backbone = find_backbone(settings.backbone)
    if not backbone.takes(channels):
        grey = ", ".join(sorted(name for name, other in BACKBONES.items() if other.takes(channels)))
        raise RecipeError(
            f"data.color: expected rgb for {backbone.name}, which also takes grey images then. Received: {channels} "
            f"channel. Trained from scratch, {grey} take grey as it is"
        )
    size = input_size(settings, backbone)
    network = backbone.build((size, size, channels))
    load_weights(network, weights)
    if settings.last_layer is not None:
        network = _end_with(network, settings.last_layer)
    head = settings.head or backbone.head
    hidden = head_names(backbone) if head == "flatten-dense" else ()
    outputs = _head(network.output, backbone, hidden, num_classes=num_classes, dropout=settings.dropout)
    model = keras.Model(network.input, outputs, name="classifier")
    return Classifier(model, network.layers, network.output, backbone.preprocessing, head)


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


def head_names(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of a flatten-dense head's hidden layers."""
    return tuple(HIDDEN if i == 0 else f"{HIDDEN}_{i + 1}" for i in range(len(backbone.hidden_units)))


def _head(features: Any, backbone: Backbone, hidden: tuple[str, ...], *, num_classes: int, dropout: float) -> Any:
    from keras import layers

    if not hidden:
        x = layers.GlobalAveragePooling2D(name="pool")(features)
        x = layers.Dropout(dropout, name="dropout")(x)
    else:
        x = layers.Flatten(name="flatten")(features)
        for i, (name, units) in enumerate(zip(hidden, backbone.hidden_units, strict=True)):
            x = layers.Dense(units, activation="relu", name=name)(x)
            x = layers.Dropout(dropout, name="dropout" if i == 0 else f"dropout_{i + 1}")(x)
    x = layers.Dense(num_classes, name=LOGITS)(x)
    return layers.Activation("softmax", dtype="float32", name=PROBABILITIES)(x)


def input_size(settings: Model, backbone: Backbone) -> int:
    """Return the height and width of the input, pixels.

    Raises:
        RecipeError: if it is below what the backbone can take.
    """
    size = settings.input_size or backbone.input_size
    if size < backbone.min_size:
        raise RecipeError(
            f"model.input_size: expected at least {backbone.min_size} for {backbone.name}. Received: {size}"
        )
    return size


def preprocess(images: Any, preprocessing: Preprocessing) -> Any:
    """Return pixels as a backbone wants them; Keras's own function, on numpy arrays and tensors alike.

    Args:
        images: float32, shape (batch, height, width, channels), values 0-255, RGB or grey; a numpy array may be
            changed in place.
        preprocessing: the backbone's.
    """
    if preprocessing == "none":
        return images
    from keras.applications.imagenet_utils import preprocess_input

    return preprocess_input(images, mode=preprocessing)
