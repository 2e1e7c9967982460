"""Versions of several networks, random weights of a seed, as a training exports them.

`python -m benchmarks.workload.versions FOLDER` writes FOLDER/NETWORK/ for each of `NETWORKS`, and FOLDER/sizes.json:
bytes of the weights and of the version.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from contract.model import InputSpec, Label, ModelContract, build_document
from contract.store import WARMUP_FILE
from engine.warmup import write_warmup_records
from pipeline.networks.backbones import find_backbone
from pipeline.networks.network import build_classifier
from pipeline.networks.weights import find_weights
from pipeline.publishing.export import export_saved_model
from pipeline.publishing.publish import build_warmup_requests
from pipeline.recipe.training_settings import Model

# Height and width, pixels; channels; classes.
NETWORKS = {
    "MnistCNN": (28, 1, 10),
    "MobileNetV2": (224, 3, 10),
    "AlexNet": (227, 3, 10),
    "ResNet50": (224, 3, 1000),
}


def main() -> None:
    """Write the versions."""
    folder = Path(sys.argv[1])
    sizes = {name: write_version(name, folder / name) for name in NETWORKS}
    (folder / "sizes.json").write_text(json.dumps(sizes))


def write_version(name: str, directory: Path) -> dict[str, int]:
    """Export a network; return the bytes of its weights and of its version."""
    import keras

    side, channels, classes = NETWORKS[name]
    keras.utils.set_random_seed(7)
    settings = Model(backbone=name, weights="none", input_size=side)
    weights = find_weights(find_backbone(name), "none")
    classifier = build_classifier(settings, weights, num_classes=classes, channels=channels)
    spec = InputSpec(side, side, channels=channels, color="rgb" if channels == 3 else "grey")
    document = build_document(
        [Label(f"class-{i}", f"Class {i}") for i in range(classes)],
        spec,
        saliency=classifier.saliency,
        temperature=1.0,
        tolerance=0.02,
        embedding={"dimension": classifier.embedding_dimension},
    )
    contract = ModelContract.from_document(document)
    directory.mkdir()
    export_saved_model(classifier, contract, directory)
    write_warmup_records(directory / WARMUP_FILE, build_warmup_requests(contract))
    return {
        "weights": sum(4 * int(np.prod(variable.shape)) for variable in classifier.model.variables),
        "version": sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
    }


if __name__ == "__main__":
    main()
