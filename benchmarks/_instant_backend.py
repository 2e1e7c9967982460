"""A model server without a model, for measuring what is in front of one: a real gRPC server with a fixed answer.

    python -m benchmarks._instant_backend SOCKET [--side 224] [--workers 2] [--seconds-per-image 0]

With a time per image it has a known capacity, workers / seconds, and queues what is beyond it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import Any

import grpc
import numpy as np

from contract.model import InputSpec, Label, build_document, canonical_json
from contract.tensors import (
    encode_tensor,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MODEL = "bench"
VERSION = 1
LABELS = ("glaucoma", "normal", "suspect")
_MESSAGE_BYTES = 256 << 20


class InstantBackend:
    """Answers every Predict with the same probabilities.

    Args:
        spec: what its contract asks for.
        workers: images answered at a time.
        seconds_per_image: how long each occupies a worker, seconds; 0 answers at once.
    """

    def __init__(self, spec: InputSpec, *, workers: int = 2, seconds_per_image: float = 0.0) -> None:
        labels = [Label(label, label.capitalize()) for label in LABELS]
        document = build_document(labels, spec, saliency=None, temperature=1.0, tolerance=0.02)
        self._contract = canonical_json(document).encode()
        self._busy = asyncio.Semaphore(workers)
        self._seconds_per_image = seconds_per_image

    async def Predict(self, request: Any, context: Any) -> Any:
        """Answer `describe` and `serving_default`."""
        reply = predict_pb2.PredictResponse(model_spec=request.model_spec)
        reply.model_spec.version.value = VERSION
        if request.model_spec.signature_name == "describe":
            reply.outputs["contract"].CopyFrom(encode_tensor(np.array([self._contract], dtype=object)))
            return reply
        count = request.inputs["images"].tensor_shape.dim[0].size
        if self._seconds_per_image:
            async with self._busy:
                await asyncio.sleep(count * self._seconds_per_image)
        rows = np.tile(np.array([0.7, 0.2, 0.1], dtype=np.float32), (count, 1))
        reply.outputs["probabilities"].CopyFrom(encode_tensor(rows))
        return reply

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Say that the one version is AVAILABLE."""
        reply = get_model_status_pb2.GetModelStatusResponse()
        reply.model_version_status.add(version=VERSION, state=30)
        return reply

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Refuse; the gateway never asks."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not part of the benchmark")

    Classify = Regress = MultiInference = HandleReloadConfigRequest = GetModelMetadata


async def serve(address: str, backend: InstantBackend) -> None:
    """Serve until SIGTERM."""
    options = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
    server = grpc.aio.server(options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(backend, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(backend, server)
    server.add_insecure_port(address)
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await server.stop(0)


async def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds-per-image", type=float, default=0.0)
    given = parser.parse_args()
    backend = InstantBackend(
        InputSpec(height=given.side, width=given.side), workers=given.workers, seconds_per_image=given.seconds_per_image
    )
    await serve(f"unix:{given.socket}", backend)


if __name__ == "__main__":
    asyncio.run(main())
