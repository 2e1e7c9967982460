"""tensorflow.serving.PredictionService: Predict and GetModelMetadata."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from contract.tensors import encode_tensor, get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc
from engine.requests import run_request, signature_name
from service.modelserver.answers import answering, build_model_spec, check_model_spec, find_version, refusing
from service.modelserver.errors import RequestError
from service.modelserver.execution import Workers
from service.modelserver.repository import ModelRepository
from service.modelserver.served import ServedVersion

METADATA_FIELD = "signature_def"
_USE_PREDICT = "use Predict"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Answers with the repository's models, on the workers' threads.

    Args:
        repository: the models.
        workers: where they run.
    """

    def __init__(self, repository: ModelRepository, workers: Workers) -> None:
        self._repository = repository
        self._workers = workers

    @answering
    async def Predict(self, request: Any, context: Any) -> Any:
        """Run one signature of one version."""
        version = find_version(self._repository, request)
        call = functools.partial(_predict, version, request)
        running = self._workers.submit(call, timeout_s=context.time_remaining())
        version.hold(running)
        # gRPC cancels this coroutine when the caller leaves or its deadline passes; that drops a waiting call.
        return await asyncio.wrap_future(running)

    @answering
    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Return the signatures of one version."""
        check_model_spec(request)
        if not request.metadata_field:
            raise RequestError("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != METADATA_FIELD:
                raise RequestError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        return _describe_signatures(find_version(self._repository, request))

    Classify = refusing("Classify", _USE_PREDICT)
    Regress = refusing("Regress", _USE_PREDICT)
    MultiInference = refusing("MultiInference", _USE_PREDICT)


def _predict(version: ServedVersion, request: Any) -> Any:
    """Run a request on a version that the caller holds; on a worker's thread."""
    if version.engine is None:
        raise RequestError("NOT_FOUND", f"Servable not found for request: Specific({version.model}, {version.number})")
    outputs = run_request(version.engine, request)
    return predict_pb2.PredictResponse(
        model_spec=build_model_spec(version, signature_name(request)),
        outputs={name: encode_tensor(array) for name, array in outputs.items()},
    )


def _describe_signatures(version: ServedVersion) -> Any:
    response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=build_model_spec(version))
    signatures = get_model_metadata_pb2.SignatureDefMap(
        signature_def=dict(version.engine.signatures) if version.engine else {}
    )
    response.metadata[METADATA_FIELD].Pack(signatures)
    return response
