"""From errors to gRPC statuses, as TensorFlow Serving words them; from a ModelSpec to a version."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from contract.tensors import model_pb2
from engine.errors import EngineError
from service.modelserver.errors import RequestError
from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.scheduling import ModelQueue
from service.modelserver.serving.versions import ServedVersion

logger = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 1024  # TensorFlow Serving's own limit (grpc_status_util.cc)

Method = Callable[[Any, Any, Any], Awaitable[Any]]


def answering(method: Method) -> Method:
    """Turn the errors of an RPC method into statuses; an unforeseen one becomes INTERNAL and goes to the log."""

    @functools.wraps(method)
    async def answer(servicer: Any, request: Any, context: Any) -> Any:
        try:
            return await method(servicer, request, context)
        except EngineError as err:
            await _abort(context, err.code, str(err))
        except Exception:  # the boundary of the process: the caller gets no traceback, the log does
            logger.exception("%s failed", method.__name__)
            await _abort(context, "INTERNAL", f"{method.__name__} failed inside the model server; its log says why")

    return answer


def refusing(name: str) -> Method:
    """Return an RPC method that says in plain words that it is not there."""

    async def refuse(servicer: Any, request: Any, context: Any) -> NoReturn:
        await _abort(context, "UNIMPLEMENTED", f"{name} is not implemented by Fovea's model server; use Predict")

    return refuse


class Refusal(grpc.GenericRpcHandler):
    """Refuses the methods of services that are not there at all."""

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of methods without one of their own."""
        refuse = refusing(handler_call_details.method.rpartition("/")[2])
        return grpc.unary_unary_rpc_method_handler(functools.partial(refuse, None))


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


async def _abort(context: Any, code: str, message: str) -> NoReturn:
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[:MAX_MESSAGE_CHARS] + "...TRUNCATED"
    await context.abort(grpc.StatusCode[code], message)
    raise AssertionError("abort returned")
