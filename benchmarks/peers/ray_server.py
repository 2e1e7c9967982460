"""Ray Serve with `@serve.batch`, as in its guide "Dynamic Request Batching"; the body is the JPEG."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import ray
from arguments import BATCH_WAIT_S, HOST, MAX_BATCH, Arguments, read_arguments
from ray import serve
from starlette.requests import Request

_MAX_ONGOING = 128  # requests that a replica takes at a time


@serve.deployment(num_replicas=1, max_ongoing_requests=_MAX_ONGOING)
class Classifier:
    """One replica with the model.

    Args:
        arguments: the model's file.
    """

    def __init__(self, arguments: Arguments) -> None:
        from keras_model import KerasModel, decode

        self._model, self._decode = KerasModel(arguments.model), decode

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def classify(self, images: list[np.ndarray]) -> list[dict[str, Any]]:
        """Classify a batch."""
        return self._model.classify(np.stack(images))

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one picture."""
        return await self.classify(self._decode(await request.body()))


if __name__ == "__main__":
    arguments = read_arguments()
    ray.init(include_dashboard=False, configure_logging=False, log_to_driver=False)
    serve.start(http_options={"host": HOST, "port": arguments.port})
    serve.run(Classifier.bind(arguments), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
