"""tensorflow.serving.ModelService: GetModelStatus and HandleReloadConfigRequest."""

from __future__ import annotations

from typing import Any

import grpc

from contract.tensors import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc
from service.modelserver.errors import RequestError
from service.modelserver.grpc_errors import answering
from service.modelserver.model_spec import check_model_spec
from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.versions import ServedVersion
from service.modelserver.watcher import ModelWatcher


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """Answers the states of a model's versions.

    Args:
        repository: the models.
        watcher: decides which there are.
    """

    def __init__(self, repository: ModelRepository, watcher: ModelWatcher) -> None:
        self._repository = repository
        self._watcher = watcher

    @answering
    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Return the state of one version or all, newest first; a label is not looked at, as in the original."""
        check_model_spec(request)
        name = request.model_spec.name
        number = int(request.model_spec.version.value) if request.model_spec.HasField("version") else None
        versions = [version for version in self._repository.versions(name) if number in (None, version.number)]
        if not versions:
            which = "any versions" if number is None else f"version {number}"
            raise RequestError(f"Could not find {which} of model {name}", code="NOT_FOUND")
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[_describe_version(version) for version in versions]
        )

    @answering
    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Serve the models of a configuration instead of the present ones; return when new ones are available."""
        await self._watcher.reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _describe_version(version: ServedVersion) -> Any:
    status = get_model_status_pb2.ModelVersionStatus(version=version.number, state=int(version.state))
    status.status.SetInParent()
    if version.error is not None:
        # tensorflow.error.Code has gRPC's numbers.
        status.status.error_code = grpc.StatusCode[version.error.code].value[0]
        status.status.error_message = str(version.error)
    return status
