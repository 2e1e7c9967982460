"""The functions of a classifier's SavedModel: `serving_default`, `explain` and `embed`.

`serving_default` holds its weights as constants, so that a runtime can fold and fuse them. `explain` and `embed`
stay on variables, which they share; `explain` holds no gradient op (pipeline/networks/saliency.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from contract.model import InputSpec, ModelContract
from pipeline.networks.network import Classifier
from pipeline.networks.saliency import carry_back


def serving_function(classifier: Classifier, contract: ModelContract) -> Any:
    """Return `serving_default` as it is exported, weights as constants: uint8 images -> {"probabilities"}."""
    return _with_constant_weights(_predict(classifier, contract), contract.input)


def _images_spec(spec: InputSpec) -> tf.TensorSpec:
    return tf.TensorSpec([None, *spec.shape], tf.uint8, name="images")


def _predict(classifier: Classifier, contract: ModelContract) -> Callable[[Any], Any]:
    logits_of = keras.Model(classifier.model.input, classifier.logits)

    def predict(images: Any) -> Any:
        pixels = classifier.backbone.preprocess(tf.cast(images, tf.float32))
        return tf.nn.softmax(logits_of(pixels, training=False) / contract.temperature)

    return predict


def _with_constant_weights(predict: Callable[[Any], Any], spec: InputSpec) -> Any:
    traced = tf.function(predict, input_signature=[_images_spec(spec)], autograph=False)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())

    def serving_default(images: Any) -> dict[str, Any]:
        (probabilities,) = frozen(images)
        return {"probabilities": probabilities}

    return tf.function(serving_default, input_signature=[_images_spec(spec)], autograph=False)


def explain_function(classifier: Classifier, contract: ModelContract) -> Any:
    """Return `explain` as it is exported: uint8 images, class_index -> {"probabilities", "saliency"}."""
    head, rules = classifier.head_layers, classifier.backbone.saliency_rules()
    between = [tensor for layer in head for tensor in (layer.input, layer.output)]
    network = keras.Model(classifier.model.input, [classifier.feature_map, classifier.logits, *between])

    def explain(images: Any, class_index: Any) -> dict[str, Any]:
        pixels = classifier.backbone.preprocess(tf.cast(images, tf.float32))
        features, logits, *values = network(pixels, training=False)
        predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
        chosen = tf.where(class_index < 0, predicted, class_index)
        pairs = list(zip(values[::2], values[1::2], strict=True))
        column = carry_back(head, pairs, tf.one_hot(chosen, logits.shape[-1]), rules)
        return {
            "probabilities": tf.nn.softmax(logits / contract.temperature),
            "saliency": _normalised(tf.nn.relu(tf.einsum("bhwk,bk->bhw", features, column))),
        }

    class_index = tf.TensorSpec([None], tf.int32, name="class_index")
    return tf.function(explain, input_signature=[_images_spec(contract.input), class_index], autograph=False)


def embed_function(classifier: Classifier, contract: ModelContract) -> Any:
    """Return `embed` as it is exported: uint8 images -> {"embedding"}, the pooled features of the last stage."""
    network = keras.Model(classifier.model.input, classifier.feature_map)

    def embed(images: Any) -> dict[str, Any]:
        pixels = classifier.backbone.preprocess(tf.cast(images, tf.float32))
        pooled = classifier.pool(network(pixels, training=False))
        return {"embedding": tf.cast(pooled, tf.float32)}

    return tf.function(embed, input_signature=[_images_spec(contract.input)], autograph=False)


def _normalised(maps: Any) -> Any:
    """Divide each map by its own maximum; an all-zero map stays zero."""
    return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=[1, 2], keepdims=True))
