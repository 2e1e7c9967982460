"""Turns errors into gRPC statuses, as TensorFlow Serving words them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from engine.errors import EngineError

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


async def _abort(context: Any, code: str, message: str) -> NoReturn:
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[:MAX_MESSAGE_CHARS] + "...TRUNCATED"
    await context.abort(grpc.StatusCode[code], message)
    raise AssertionError("abort returned")
