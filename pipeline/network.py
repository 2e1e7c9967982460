"""The classifier: a backbone, a head and the arithmetic between pixels and network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.backbones import Backbone, Preprocessing, find_backbone
from pipeline.errors import RecipeError
from pipeline.recipe import Model
from pipeline.weights import Weights, load_weights

HIDDEN_UNITS = 1024  # of the flatten-dense head
LOGITS = "logits"
HIDDEN = "hidden"


@dataclass(frozen=True)
class Classifier:
    """A Keras model and what must be known to train, export and explain it.

    Attributes:
        model: from preprocessed float32 images to probabilities; one flat graph, no nested model.
        backbone_layers: the backbone's layers, in order.
        feature_map: symbolic output of the backbone, shape (batch, rows, columns, channels).
        preprocessing: what the model's input must look like.
        head: "gap" or "flatten-dense".
    """

    model: Any
    backbone_layers: list[Any]
    feature_map: Any
    preprocessing: Preprocessing
    head: str


def build_classifier(settings: Model, weights: Weights, *, num_classes: int, channels: int) -> Classifier:
    """Build the network of a recipe, its backbone's weights loaded and its head's random.

    Raises:
        RecipeError: if the input is too small for the backbone, or it cannot take grey images.
        WeightsError: if the weights do not fit.
    """
    import keras
    from keras import layers

    backbone = find_backbone(settings.backbone)
    size = input_size(settings, backbone)
    network = backbone.build((size, size, channels), None)
    load_weights(network, weights)
    x = network.output
    if settings.head == "gap":
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dropout(settings.dropout, name="dropout")(x)
    else:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(HIDDEN_UNITS, activation="relu", name=HIDDEN)(x)
        x = layers.Dropout(settings.dropout, name="dropout")(x)
    x = layers.Dense(num_classes, name=LOGITS)(x)
    x = layers.Activation("softmax", dtype="float32", name="probabilities")(x)
    model = keras.Model(network.input, x, name="classifier")
    return Classifier(model, network.layers, network.output, backbone.preprocessing, settings.head)


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
