"""LitServe, batching on; base64 in JSON as in its guide "Speed up serving by 200x"."""

from __future__ import annotations

import base64
from typing import Any

import litserve
import numpy as np
from arguments import BATCH_WAIT_S, HOST, MAX_BATCH, read_arguments
from keras_model import KerasModel, decode


class Classifier(litserve.LitAPI):
    """Decodes, batches, classifies."""

    def setup(self, device: str) -> None:
        """Load the model, in each worker."""
        self.model = KerasModel(read_arguments().model)

    def decode_request(self, request: dict[str, str], **_: Any) -> np.ndarray:
        """Return the picture as the model takes it."""
        return decode(base64.b64decode(request["image_data"]))

    def predict(self, x: np.ndarray, **_: Any) -> list[dict[str, Any]]:
        """Classify a batch."""
        return self.model.classify(np.asarray(x))

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give each caller its own."""
        return output

    def encode_response(self, output: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Answer as it is."""
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=MAX_BATCH, batch_timeout=BATCH_WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host=HOST, port=read_arguments().port, generate_client_file=False, log_level="warning")
