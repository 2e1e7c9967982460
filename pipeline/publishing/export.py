"""A trained classifier to a SavedModel with four signatures, loadable by TensorFlow Serving.

`serving_default`, `explain` and `embed` are those of pipeline/networks/saved_model.py; `describe` returns the contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from contract.model import ModelContract
from contract.store import CONTRACT_FILE
from pipeline.networks.network import Classifier
from pipeline.networks.saved_model import ExportedFunctions


def export_saved_model(
    classifier: Classifier, contract: ModelContract, directory: Path, functions: ExportedFunctions | None = None
) -> None:
    """Write a SavedModel and its contract.

    Signatures (every input and output has the batch axis first):
        serving_default: images uint8 -> probabilities float32 [batch, classes].
        explain: images, class_index int32 [batch] (-1: the predicted class) -> probabilities; saliency float32
            [batch, rows, columns] in [0, 1]; left out where the contract has no saliency.
        embed: images -> embedding float32 [batch, dimension], the pooled features of the last stage.
        describe: row int32 [batch] -> contract string [batch].

    Args:
        classifier: trained.
        contract: its input and temperature go into the graph, its JSON into `describe`.
        directory: exists; gets saved_model.pb, which holds the weights, and assets.extra/contract.json.
        functions: where they are there already, for a contract of this input and temperature; cleared.
    """
    functions = functions or ExportedFunctions(classifier, contract)
    tf.saved_model.save(
        tf.Module(),
        str(directory),
        signatures={**functions.renew(), "describe": _describe(contract.to_json())},
        # Gradient functions would be written for every op; some (EfficientNet's swish) cannot be.
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
    functions.clear()
    path = directory / CONTRACT_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(contract.to_json(), encoding="utf-8")


def _describe(text: str) -> Any:
    def describe(row: Any) -> dict[str, Any]:
        return {"contract": tf.fill(tf.shape(row), text)}

    return tf.function(describe, input_signature=[tf.TensorSpec([None], tf.int32, name="row")], autograph=False)
