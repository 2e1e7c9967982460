"""mosec over Fovea's artifact, engine and decoder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from arguments import BATCH_WAIT_S, HOST, MAX_BATCH, read_arguments
from fovea_model import FoveaDecoder, FoveaModel
from mosec import Server, Worker

_MODEL = "BENCHMARK_MODEL"  # mosec reads the command line itself, so workers find the model's path here


class Decode(Worker):
    """The first stage, in as many processes as there are cores."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = FoveaDecoder(Path(os.environ[_MODEL]))

    def deserialize(self, data: bytes) -> bytes:
        """Take the body as it is."""
        return data

    def forward(self, data: bytes) -> np.ndarray:
        """Return the picture as the model takes it."""
        return self._decoder.decode(data)


class Classify(Worker):
    """The second stage: one process with the model."""

    def __init__(self) -> None:
        super().__init__()
        self._model = FoveaModel(Path(os.environ[_MODEL]))

    def forward(self, data: list[np.ndarray]) -> list[dict[str, Any]]:
        """Classify a batch."""
        return self._model.classify(np.stack(data))


if __name__ == "__main__":
    arguments = read_arguments()
    os.environ[_MODEL] = str(arguments.model)
    flags = ["--address", HOST, "--port", str(arguments.port), "--timeout", "60000", "--log-level", "warning"]
    sys.argv = [sys.argv[0], *flags]
    server = Server()
    server.append_worker(Decode, num=os.cpu_count() or 1)
    server.append_worker(Classify, num=1, max_batch_size=MAX_BATCH, max_wait_time=round(1000 * BATCH_WAIT_S))
    server.run()
