"""The network of every system: one of `NETWORKS`, random weights of a seed.

ImageNet's weights would compute as fast: the arithmetic is the same, and neither set makes denormal numbers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload.shared import KERAS_FILE, MODEL, NETWORKS
from contract.image import decode_image
from contract.model import InputSpec, Label, ModelContract, build_document
from contract.store import VERIFICATION_FILE, WARMUP_FILE, ModelStore
from engine.warmup import write_warmup_records
from pipeline.networks.backbone import LOGITS, preprocess
from pipeline.networks.backbones import find_backbone
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import find_weights
from pipeline.publishing.export import export_saved_model
from pipeline.publishing.publish import build_warmup_requests
from pipeline.recipe.training_settings import Model

SEED = 7
_PUBLISH_TIMEOUT_S = 600
_RATIO = 10  # probability of the picture's first class over the second's


def build_workload(folder: Path, picture: Path, backbone: str) -> None:
    """Write the network for every kind of system, and what it says of the picture.

    Files: KERAS_FILE for peers (in: what Keras's `preprocess_input` gives), `saved_model/`, `models/` (a store with the
    published version) and `expected.json` (class index and probability of the picture, by Keras).

    Args:
        folder: exists.
        picture: an image file.
        backbone: of NETWORKS.
    """
    import keras

    keras.utils.set_random_seed(SEED)
    side, classes = NETWORKS[backbone]
    settings = Model(backbone=backbone, weights="none", input_size=side)
    weights = find_weights(find_backbone(backbone), "none")
    classifier = build_classifier(settings, weights, num_classes=classes, channels=3)
    spec = InputSpec(side, side)
    pixels = decode_image(picture.read_bytes(), spec)[None].astype(np.float32)
    inputs = preprocess(pixels, classifier.preprocessing)
    _spread_logits(classifier, inputs)
    probabilities = classifier.model.predict(inputs, verbose=0)[0]
    index = int(probabilities.argmax())
    expected = {"index": index, "probability": float(probabilities[index])}
    (folder / "expected.json").write_text(json.dumps(expected))
    classifier.model.save(folder / KERAS_FILE)
    _publish(classifier, spec, folder, classes)


def _spread_logits(classifier: Classifier, inputs: Any) -> None:
    """Scale the head so that one class stands out: as drawn, all are equally likely or one has everything."""
    import keras

    head = classifier.model.get_layer(LOGITS)
    logits = np.asarray(keras.Model(classifier.model.input, head.output).predict(inputs, verbose=0)[0])
    first, second = np.sort(logits)[:-3:-1]
    head.kernel.assign(head.kernel * float(np.log(_RATIO) / (first - second)))


def _publish(classifier: Classifier, spec: InputSpec, folder: Path, classes: int) -> None:
    """Export as a training does, then publish as a user would: `pipeline import` checks every signature."""
    labels = [Label(f"class-{i:04}", f"Class {i}") for i in range(classes)]
    document = build_document(labels, spec, saliency=classifier.saliency, temperature=1.0, tolerance=0.02)
    contract = ModelContract.from_document(document)
    directory = folder / "saved_model"
    directory.mkdir()
    export_saved_model(classifier, contract, directory)
    write_warmup_records(directory / WARMUP_FILE, build_warmup_requests(contract))
    command = [sys.executable, "-m", "pipeline", "import", str(directory), "--name", MODEL]
    command += [f"--models-dir={folder / 'models'}", f"--runs-dir={folder / 'runs'}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=_PUBLISH_TIMEOUT_S)
    # A server pins --precision only where a verification allows it, or where there is none.
    (ModelStore(folder / "models").version_path(MODEL, 1) / VERIFICATION_FILE).unlink()
