"""An exported network as a batch callable: inputs to features."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.engine import Engine
from engine.loading import load_engine
from engine.saved_model import DEFAULT_SIGNATURE


class Extractor:
    """Computes features with a SavedModel from "inputs" to "features".

    Only its arguments are pickled: another process loads the model at its first call.

    Args:
        directory: the SavedModel; not read again after the first call.
        runtime: its name.
        precision: of the arithmetic.
    """

    def __init__(self, directory: Path, *, runtime: str, precision: str) -> None:
        self.directory = directory
        self.runtime = runtime
        self.precision = precision

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features, float32, shape (batch, *features).

        Raises:
            EngineError: if the model cannot be loaded or run.
        """
        return self._engine.run(DEFAULT_SIGNATURE, {"inputs": inputs})["features"]

    @cached_property
    def _engine(self) -> Engine:
        return load_engine(self.directory, engine=self.runtime, precision=self.precision)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process loads the model from."""
        return {"directory": self.directory, "runtime": self.runtime, "precision": self.precision}
