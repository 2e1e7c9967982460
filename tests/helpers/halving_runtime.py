"""A third runtime, on plain numpy: reads `halves.json` beside or instead of a graph, and computes x / 2 + offset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.tensors import meta_graph_pb2, types_pb2
from engine.engine import Arrays, Engine, LoadSettings, Runtime
from engine.errors import ModelLoadError

FILE = "halves.json"


class HalvingEngine(Engine):
    """Computes `y`, half of `x` plus an offset."""

    name = "halving"

    def __init__(self, offset: float) -> None:
        signature = meta_graph_pb2.SignatureDef()
        for infos, name in ((signature.inputs, "x"), (signature.outputs, "y")):
            infos[name].dtype = types_pb2.DT_FLOAT
            infos[name].tensor_shape.dim.add().size = -1
        super().__init__({"serving_default": signature})
        self._offset = np.float32(offset)

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Halve."""
        return {"y": inputs["x"] / np.float32(2) + self._offset}

    def close(self) -> None:
        """Hold nothing."""


class HalvingRuntime(Runtime):
    """Loads engines that halve."""

    name = HalvingEngine.name
    title = "Halving"

    def reads(self, directory: Path) -> bool:
        """Return whether the model's file is there."""
        return (directory / FILE).exists()

    def import_package(self) -> Any:
        """Return numpy."""
        return np

    def load(self, directory: Path, settings: LoadSettings) -> HalvingEngine:
        """Load a model."""
        try:
            return HalvingEngine(float(json.loads((directory / FILE).read_text())["offset"]))
        except (OSError, ValueError, KeyError) as err:
            raise ModelLoadError(f"{FILE} cannot be read: {err}", code="DATA_LOSS") from err


RUNTIME = HalvingRuntime()
