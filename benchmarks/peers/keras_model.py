"""The Keras ResNet50 as its users run it: Pillow, `preprocess_input`, and the model as it was saved."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 224  # pixels
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def decode(data: bytes) -> np.ndarray:
    """Return an image file as float32, shape (SIDE, SIDE, 3), as ResNet50 takes it."""
    return prepare(Image.open(io.BytesIO(data)))


def prepare(image: Image.Image) -> np.ndarray:
    """Return an image as float32, shape (SIDE, SIDE, 3), as ResNet50 takes it."""
    from keras.applications.resnet50 import preprocess_input

    resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return preprocess_input(np.asarray(resized, dtype=np.float32))


class KerasModel:
    """A loaded model that has answered once.

    Args:
        path: a .keras file.
    """

    def __init__(self, path: Path) -> None:
        import keras

        self._model = keras.models.load_model(path)
        self.classify(np.zeros((1, SIDE, SIDE, 3), np.float32))

    def classify(self, images: np.ndarray) -> list[dict[str, Any]]:
        """Return the most probable class of each image, shape (batch, SIDE, SIDE, 3).

        `predict_on_batch` spares the data pipeline that `predict` builds for every call.
        """
        return best(self._model.predict_on_batch(images))

    def predict(self, images: np.ndarray) -> list[dict[str, Any]]:
        """Do the same by `model.predict`, as most tutorials do."""
        return best(self._model.predict(images, verbose=0))


def best(probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Return the most probable class of each row."""
    return [{"index": int(row.argmax()), "probability": float(row.max())} for row in probabilities]
