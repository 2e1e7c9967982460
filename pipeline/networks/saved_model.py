"""The functions of a classifier's SavedModel: `serving_default`, `explain` and `embed`.

All three call one function that holds every weight once, as a constant, so that a runtime can fold and fuse it and a
version has the size of its weights. A runtime drops the part of that function that a signature does not need. No
gradient op is in it (pipeline/networks/saliency.py).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from contract.model import InputSpec, ModelContract
from engine.memory import return_freed_memory
from pipeline.networks.network import Classifier
from pipeline.networks.saliency import carry_back

_PREDICTED = [-1]  # as class_index: the predicted class of every image


class ExportedFunctions:
    """The signatures that compute, as they are exported, by name.

    Signatures:
        serving_default: uint8 images -> {"probabilities"}.
        explain: uint8 images, class_index -> {"probabilities", "saliency"}; left out where no map can be had.
        embed: uint8 images -> {"embedding"}, the pooled features of the last stage.

    TensorFlow holds the weights several times more for each function that has run, as long as there is that function.

    Args:
        classifier: trained.
        contract: its input and temperature go into the graph.
    """

    def __init__(self, classifier: Classifier, contract: ModelContract) -> None:
        self._specs = [_images_spec(contract.input), tf.TensorSpec([None], tf.int32, name="class_index")]
        self._explained = bool(classifier.explained)
        self._network: Any = freeze(_compute(classifier, contract), self._specs)
        self._functions = self._wrap()

    def __getitem__(self, name: str) -> Any:
        """Return the function of a signature."""
        return self._functions[name]

    def renew(self) -> dict[str, Any]:
        """Return all functions, made anew around the same network; the ones before are freed."""
        self._functions = {}
        _free()
        self._functions = self._wrap()
        return self._functions

    def clear(self) -> None:
        """Free the functions and the network."""
        self._functions, self._network = {}, None
        _free()

    def _wrap(self) -> dict[str, Any]:
        network, specs = self._network, self._specs

        def serving_default(images: Any) -> dict[str, Any]:
            probabilities, _, _ = network(images, tf.constant(_PREDICTED))
            return {"probabilities": probabilities}

        def explain(images: Any, class_index: Any) -> dict[str, Any]:
            probabilities, saliency, _ = network(images, class_index)
            return {"probabilities": probabilities, "saliency": saliency}

        def embed(images: Any) -> dict[str, Any]:
            _, _, embedding = network(images, tf.constant(_PREDICTED))
            return {"embedding": embedding}

        functions = {
            "serving_default": tf.function(serving_default, input_signature=specs[:1], autograph=False),
            "embed": tf.function(embed, input_signature=specs[:1], autograph=False),
        }
        if self._explained:
            functions["explain"] = tf.function(explain, input_signature=specs, autograph=False)
        return functions


def _free() -> None:
    gc.collect()  # functions are full of reference cycles
    return_freed_memory()


def _images_spec(spec: InputSpec) -> tf.TensorSpec:
    return tf.TensorSpec([None, *spec.shape], tf.uint8, name="images")


def _compute(classifier: Classifier, contract: ModelContract) -> Callable[[Any, Any], tuple[Any, Any, Any]]:
    """Return a function of images and class_index that gives probabilities, saliency and embedding.

    Without a map the saliency is the class index, which no signature returns.
    """
    head = classifier.head_layers if classifier.explained else []
    between = [tensor for layer in head for tensor in (layer.input, layer.output)]
    outputs = [classifier.feature_map, classifier.logits, *between]
    # Every node has the name as its prefix, and in a version of LeNet names take as much room as 5 % of the weights.
    network = keras.Model(classifier.model.input, outputs, name="n")

    def compute(images: Any, class_index: Any) -> tuple[Any, Any, Any]:
        pixels = classifier.backbone.preprocess(tf.cast(images, tf.float32))
        features, logits, *values = network(pixels, training=False)
        # Nothing but this division reads the logits: a runtime then folds it into the last layer in every signature,
        # and rounds alike.
        scaled = logits / contract.temperature
        predicted = tf.argmax(scaled, axis=1, output_type=tf.int32)
        chosen = tf.where(class_index < 0, predicted, class_index)
        pairs = list(zip(values[::2], values[1::2], strict=True))
        saliency = _saliency(classifier, head, pairs, features, chosen) if head else chosen
        embedding = tf.cast(classifier.pool(features), tf.float32)
        return tf.nn.softmax(scaled), saliency, embedding

    return compute


def _saliency(classifier: Classifier, head: list[Any], pairs: list[tuple[Any, Any]], features: Any, chosen: Any) -> Any:
    """Return maps, shape (batch, rows, columns), of the chosen classes."""
    rules = classifier.backbone.saliency_rules()
    column = carry_back(head, pairs, tf.one_hot(chosen, classifier.logits.shape[-1]), rules)
    return _normalised(tf.nn.relu(tf.einsum("bhwk,bk->bhw", features, column)))


def freeze(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> Any:
    """Return a function with its variables as constants."""
    traced = tf.function(function, input_signature=specs, autograph=False)
    return convert_variables_to_constants_v2(traced.get_concrete_function())


def _normalised(maps: Any) -> Any:
    """Divide each map by its own maximum; an all-zero map stays zero."""
    return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=[1, 2], keepdims=True))
