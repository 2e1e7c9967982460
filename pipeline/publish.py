"""An evaluated classifier to a version in the model store: export, warm-up records, verification, one rename."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.model import ModelContract
from contract.store import REPORT_FILE, VERIFICATION_FILE, WARMUP_FILE, ModelStore
from contract.tensors import encode_tensor, predict_pb2
from engine.warmup import write_warmup_records
from pipeline.export import export_saved_model
from pipeline.network import Classifier
from pipeline.pixels import Pixels
from pipeline.verify import Deviation, verification_document, verify


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        version: the new version's number.
        deviations: how far each engine strays from the Keras model.
    """

    version: int
    deviations: list[Deviation]


@dataclass(frozen=True)
class Replay:
    """Images to verify an export with, and what the Keras model says of them.

    Attributes:
        pixels: decodes the images.
        paths: which ones.
        probabilities: calibrated, float32, shape (images, classes).
    """

    pixels: Pixels
    paths: Sequence[str]
    probabilities: NDArray[np.float32]


def publish(
    classifier: Classifier, contract: ModelContract, replay: Replay, store: ModelStore, *, name: str, report: Path
) -> Published:
    """Export, verify and publish; the store is untouched unless all of it succeeds.

    Raises:
        VerificationError: if the export does not compute what the classifier does.
        StoreError: if the store cannot be written.
    """
    with store.staging() as directory:
        export_saved_model(classifier, contract, directory)
        write_warmup_records(directory / WARMUP_FILE, _warmup_requests(name, contract))
        deviations = verify(directory, contract, replay.pixels, replay.paths, replay.probabilities)
        document = json.dumps(verification_document(deviations), indent=2)
        (directory / VERIFICATION_FILE).write_text(document + "\n", encoding="utf-8")
        shutil.copyfile(report, directory / REPORT_FILE)
        return Published(store.publish(name, directory), deviations)


def _warmup_requests(name: str, contract: ModelContract) -> list[Any]:
    """One synthetic image for each signature that computes: random pixels exercise every branch of a decoder."""
    image = np.random.default_rng(0).integers(0, 256, (1, *contract.input.shape), np.uint8)
    inputs = {
        "serving_default": {"images": image},
        "explain": {"images": image, "class_index": np.array([-1], np.int32)},
    }
    requests = []
    for signature, arrays in inputs.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        for key, array in arrays.items():
            request.inputs[key].CopyFrom(encode_tensor(array))
        requests.append(request)
    return requests
