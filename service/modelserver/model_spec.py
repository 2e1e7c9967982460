"""Finds the version that a request's ModelSpec names, and builds the ModelSpec of a reply."""

from __future__ import annotations

from typing import Any

from contract.tensors import model_pb2
from service.modelserver.errors import RequestError
from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.scheduling import ModelQueue
from service.modelserver.serving.versions import ServedVersion


def find_version(repository: ModelRepository, request: Any) -> tuple[ServedVersion, ModelQueue]:
    """Return the loaded version that a request's model_spec names, and its executor.

    Raises:
        RequestError: if it names none, or none that is loaded.
    """
    check_model_spec(request)
    spec = request.model_spec
    if not spec.name:
        raise RequestError("ModelSpec has no name specified.")
    number = int(spec.version.value) if spec.HasField("version") else None
    if spec.HasField("version_label"):
        number = repository.resolve_label(spec.name, spec.version_label)
    version = repository.find(spec.name, number)
    if version is None or version.queue is None:
        wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        raise RequestError(f"Servable not found for request: {wanted}", code="NOT_FOUND")
    return version, version.queue


def check_model_spec(request: Any) -> None:
    """Check that a request has a model_spec at all.

    Raises:
        RequestError: if it has not.
    """
    if not request.HasField("model_spec"):
        raise RequestError("Missing ModelSpec")


def build_model_spec(version: ServedVersion, signature: str = "") -> Any:
    """Return the ModelSpec of a reply: which model and version answered, and by which signature."""
    spec = model_pb2.ModelSpec(name=version.model, signature_name=signature)
    spec.version.value = version.number
    return spec
