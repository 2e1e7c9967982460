"""tensorflow.serving.PredictionService: Predict and GetModelMetadata."""

from __future__ import annotations

import asyncio
from typing import Any

from numpy.typing import NDArray

from contract.errors import TensorError
from contract.tensors import (
    PRECISION_KEY,
    encode_tensor,
    encode_typed_tensor,
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from engine.requests import decode_call
from service.modelserver.errors import RequestError
from service.modelserver.grpc_errors import answering, refusing
from service.modelserver.model_spec import build_model_spec, check_model_spec, find_version
from service.modelserver.monitoring import Metrics
from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.scheduling import ModelQueue
from service.modelserver.serving.versions import ServedVersion

METADATA_FIELD = "signature_def"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Answers with the repository's models.

    Args:
        repository: the models.
        metrics: is told of every Predict call.
        as_content: whether numbers are answered in `tensor_content`; otherwise in the field of their type.
    """

    def __init__(self, repository: ModelRepository, metrics: Metrics, *, as_content: bool = False) -> None:
        self._repository = repository
        self._metrics = metrics
        self._encode = encode_tensor if as_content else encode_typed_tensor

    @answering
    async def Predict(self, request: Any, context: Any) -> Any:
        """Run one signature of one version."""
        with self._metrics.call() as labels:
            version, queue = find_version(self._repository, request)
            labels.model, labels.version = version.model, str(version.number)
            call = decode_call(queue.engine, request)
            running = queue.submit_checked(call, caller=context.peer(), timeout_s=context.time_remaining())
            # gRPC cancels this coroutine when the caller leaves or its deadline passes; that takes the call out.
            outputs = await asyncio.wrap_future(running)
        context.set_trailing_metadata(((PRECISION_KEY, queue.engine.precision_of(call.signature)),))
        return predict_pb2.PredictResponse(
            model_spec=build_model_spec(version, call.signature),
            outputs={name: self._encode_output(name, array) for name, array in outputs.items()},
        )

    def _encode_output(self, name: str, array: NDArray[Any]) -> Any:
        try:
            return self._encode(array)
        except TensorError as err:
            raise RequestError(f"output {name}: type {array.dtype} is not supported", code="UNIMPLEMENTED") from err

    @answering
    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Return the signatures of one version."""
        check_model_spec(request)
        if not request.metadata_field:
            raise RequestError("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != METADATA_FIELD:
                raise RequestError(f"Metadata field {field} is not supported")
        return _describe_signatures(*find_version(self._repository, request))

    Classify, Regress, MultiInference = map(refusing, ("Classify", "Regress", "MultiInference"))


def _describe_signatures(version: ServedVersion, queue: ModelQueue) -> Any:
    response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=build_model_spec(version))
    signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=dict(queue.engine.signatures))
    response.metadata[METADATA_FIELD].Pack(signatures)
    return response
