"""BentoML with adaptive batching, as in its guide of that name; multipart with the field `images`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from arguments import HOST, MAX_BATCH, read_arguments
from keras_model import KerasModel, prepare
from PIL.Image import Image

_MODEL = "BENCHMARK_MODEL"  # `bentoml serve` has its own command line


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    """One worker with the model."""

    def __init__(self) -> None:
        self._model = KerasModel(Path(os.environ[_MODEL]))

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def predict(self, images: list[Image]) -> list[dict[str, Any]]:
        """Classify a batch."""
        return self._model.classify(np.stack([prepare(image) for image in images]))


if __name__ == "__main__":
    arguments = read_arguments()
    os.environ[_MODEL] = str(arguments.model)
    target = f"{Path(__file__).stem}:Classifier"
    program = str(Path(sys.executable).with_name("bentoml"))
    flags = ["--host", HOST, "--port", str(arguments.port), "--working-dir", str(Path(__file__).parent)]
    os.execv(program, [program, "serve", target, *flags])
