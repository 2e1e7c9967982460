"""A trained classifier to a SavedModel with three signatures, loadable by TensorFlow Serving.

`serving_default` holds its weights as constants, so that a runtime can fold and fuse them. `explain` stays on
variables and holds no gradient op (pipeline/saliency.py). `describe` returns the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from contract.model import InputSpec, ModelContract
from contract.store import CONTRACT_FILE
from pipeline.network import Classifier, preprocess
from pipeline.saliency import carry_back


def export_saved_model(classifier: Classifier, contract: ModelContract, directory: Path) -> None:
    """Write a SavedModel and its contract.

    Signatures (every input and output has the batch axis first):
        serving_default: images uint8 -> probabilities float32 [batch, classes].
        explain: images, class_index int32 [batch] (-1: the predicted class) -> probabilities; saliency float32
            [batch, rows, columns] in [0, 1].
        describe: row int32 [batch] -> contract string [batch].

    Args:
        classifier: trained.
        contract: its input and temperature go into the graph, its JSON into `describe`.
        directory: exists; gets saved_model.pb, variables/ and assets.extra/contract.json.
    """
    module = tf.Module()
    # tf.Module finds variables in attributes; Keras wraps each in its own class.
    module.weights = [variable.value for variable in classifier.model.variables]
    tf.saved_model.save(
        module,
        str(directory),
        signatures={
            "serving_default": serving_function(classifier, contract),
            "explain": explain_function(classifier, contract),
            "describe": _describe(contract.to_json()),
        },
        # Gradient functions would be written for every op; some (EfficientNet's swish) cannot be.
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
    path = directory / CONTRACT_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(contract.to_json(), encoding="utf-8")


def serving_function(classifier: Classifier, contract: ModelContract) -> Any:
    """Return `serving_default` as it is exported, weights as constants: uint8 images -> {"probabilities"}."""
    return _with_constant_weights(_predict(classifier, contract), contract.input)


def _images_spec(spec: InputSpec) -> tf.TensorSpec:
    return tf.TensorSpec([None, *spec.shape], tf.uint8, name="images")


def _predict(classifier: Classifier, contract: ModelContract) -> Callable[[Any], Any]:
    logits_of = keras.Model(classifier.model.input, classifier.logits)

    def predict(images: Any) -> Any:
        pixels = preprocess(tf.cast(images, tf.float32), classifier.preprocessing)
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
    head = classifier.head_layers
    between = [tensor for layer in head for tensor in (layer.input, layer.output)]
    network = keras.Model(classifier.model.input, [classifier.feature_map, classifier.logits, *between])

    def explain(images: Any, class_index: Any) -> dict[str, Any]:
        pixels = preprocess(tf.cast(images, tf.float32), classifier.preprocessing)
        features, logits, *values = network(pixels, training=False)
        predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
        chosen = tf.where(class_index < 0, predicted, class_index)
        pairs = list(zip(values[::2], values[1::2], strict=True))
        column = carry_back(head, pairs, tf.one_hot(chosen, logits.shape[-1]))
        return {
            "probabilities": tf.nn.softmax(logits / contract.temperature),
            "saliency": _normalised(tf.nn.relu(tf.einsum("bhwk,bk->bhw", features, column))),
        }

    class_index = tf.TensorSpec([None], tf.int32, name="class_index")
    return tf.function(explain, input_signature=[_images_spec(contract.input), class_index], autograph=False)


def _normalised(maps: Any) -> Any:
    """Divide each map by its own maximum; an all-zero map stays zero."""
    return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=[1, 2], keepdims=True))


def _describe(text: str) -> Any:
    def describe(row: Any) -> dict[str, Any]:
        return {"contract": tf.fill(tf.shape(row), text)}

    return tf.function(describe, input_signature=[tf.TensorSpec([None], tf.int32, name="row")], autograph=False)
