"""Fovea's published version on Fovea's engine, for servers that bring their own HTTP and batching."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from keras_model import best

from contract.image import decode_image
from contract.model import ModelContract
from contract.store import CONTRACT_FILE
from engine.loading import load_engine


class FoveaModel:
    """A version's folder, loaded on the engine that suits it, at the precision that BENCHMARK_PRECISION says.

    Args:
        directory: `<name>/<version>` of a model store.
    """

    def __init__(self, directory: Path) -> None:
        self.decoder = FoveaDecoder(directory)
        self._engine = load_engine(directory, precision=os.environ["BENCHMARK_PRECISION"], warm_up=True)

    def classify(self, images: np.ndarray) -> list[dict[str, Any]]:
        """Return the most probable class of each image, uint8, shape (batch, height, width, 3)."""
        return best(self._engine.run("serving_default", {"images": images}, ["probabilities"])["probabilities"])


class FoveaDecoder:
    """Image files to what a version takes.

    Args:
        directory: the version's folder.
    """

    def __init__(self, directory: Path) -> None:
        self._spec = ModelContract.from_json((directory / CONTRACT_FILE).read_bytes()).input

    def decode(self, data: bytes) -> np.ndarray:
        """Return an image file as uint8, shape (height, width, 3)."""
        return decode_image(data, self._spec)
