"""gRPC's unary calls within one event loop: a server that services are added to, and its channel.

A call is serialised, refused, timed out and cancelled as over a socket, so services and callers need not know. Streams
are not carried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import grpc

from contract.tensors import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

PEER = "in-process"

_LATE_S = 0.01  # a caller's own timer for the same moment ends first, as over a socket

_Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Details(grpc.HandlerCallDetails):
    """The method and the metadata of a call, as gRPC gives them to a service."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class InProcessServer:
    """Stands where a `grpc.aio.Server` stands; only its own channel reaches it.

    Args:
        max_message_bytes: of a request, and of a reply.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._generic: list[grpc.GenericRpcHandler] = []
        self._found: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add services; of several that know a method the first answers."""
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Do nothing: generated code adds the same handlers as generic ones too."""

    def add_insecure_port(self, address: str) -> NoReturn:
        """Refuse to listen.

        Raises:
            RuntimeError: always, as gRPC does for an address that it cannot use.
        """
        raise RuntimeError(f"an in-process server listens nowhere. Received: {address}")

    async def start(self) -> None:
        """Do nothing: it answers from the moment that services are added."""

    async def stop(self, grace: float | None) -> None:
        """Do nothing: a call ends with the task that makes it."""

    def channel(self) -> InProcessChannel:
        """Return a channel to this server."""
        return InProcessChannel(self)

    async def answer(self, method: str, request: bytes, context: _Context) -> bytes:
        """Answer one call.

        Raises:
            grpc.aio.AioRpcError: if the service refuses it, no service has the method, or a message is too large.
        """
        self._check_size(request)
        handler = self._handler(method)
        if handler is None or handler.unary_unary is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        try:
            reply = await handler.unary_unary(_convert(handler.request_deserializer, request), context)
            serialised: bytes = _convert(handler.response_serializer, reply)
            self._check_size(serialised)
        except grpc.aio.AioRpcError:
            raise
        except Exception as err:  # the caller gets a status, the log has the traceback
            logger.exception("%s failed", method)
            raise _error(grpc.StatusCode.UNKNOWN, f"Unexpected {type(err)}: {err}") from err
        return serialised

    def _check_size(self, message: bytes) -> None:
        if len(message) > self._max_message_bytes:
            text = f"message larger than max ({len(message)} vs. {self._max_message_bytes})"
            raise _error(grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    def _handler(self, method: str) -> Any:
        if method not in self._found:
            details = _Details(method)
            found = (handler for generic in self._generic if (handler := generic.service(details)) is not None)
            self._found[method] = next(found, None)
        return self._found[method]


class InProcessChannel:
    """The part of `grpc.aio.Channel` for unary calls; connected until it is closed."""

    def __init__(self, server: InProcessServer) -> None:
        self._server = server
        self._closed = asyncio.Event()

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool = False,
    ) -> Callable[..., InProcessCall]:
        """Return a function that calls a method, as `grpc.aio.UnaryUnaryMultiCallable` does."""

        def call(request: Any, *, timeout: float | None = None, metadata: _Metadata = ()) -> InProcessCall:
            context = _Context(timeout)
            data = _convert(request_serializer, request)
            return InProcessCall(partial(self._server.answer, method, data, context), context, response_deserializer)

        return call

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Callable[..., NoReturn]:
        """Return a function that refuses to call, with the status of a server that lacks the method."""

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise _error(grpc.StatusCode.UNIMPLEMENTED, f"an in-process channel carries no streams. Received: {method}")

        return refuse

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return READY, and SHUTDOWN once it is closed."""
        return grpc.ChannelConnectivity.SHUTDOWN if self._closed.is_set() else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the state is another one."""
        if last_observed_state is self.get_state():
            await self._closed.wait()

    async def close(self) -> None:
        """Change the state; calls under way end with the tasks that make them."""
        self._closed.set()


class InProcessCall:
    """One call: awaited, it gives the reply or raises `grpc.aio.AioRpcError`.

    Args:
        answer: computes the serialised reply.
        context: of the call.
        deserialize: makes a message of the reply; None leaves it as bytes.
    """

    __slots__ = ("_answer", "_context", "_deserialize")

    def __init__(
        self, answer: Callable[[], Awaitable[bytes]], context: _Context, deserialize: Callable[[bytes], Any] | None
    ) -> None:
        self._answer = answer
        self._context = context
        self._deserialize = deserialize

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    async def trailing_metadata(self) -> _Metadata:
        """Return what the service has sent with its reply."""
        return self._context.trailing

    async def _run(self) -> Any:
        limit_s = self._context.timeout_s
        try:
            async with asyncio.timeout(None if limit_s is None else limit_s + _LATE_S):
                reply = await self._answer()
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        return _convert(self._deserialize, reply)


class _Context:
    """The part of `grpc.aio.ServicerContext` that Fovea's services use."""

    __slots__ = ("_deadline", "timeout_s", "trailing")

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self.trailing: _Metadata = ()
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def peer(self) -> str:
        """Return the caller: all calls are of one."""
        return PEER

    def time_remaining(self) -> float | None:
        """Return how long the caller waits, seconds; None for no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def set_trailing_metadata(self, metadata: _Metadata) -> None:
        """Send this with the reply."""
        self.trailing = metadata

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: _Metadata = ()) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AioRpcError: always; it is the caller's error.
        """
        raise _error(code, details)


def _convert(convert: Callable[[Any], Any] | None, message: Any) -> Any:
    """Return a message serialised or parsed; as it is where gRPC was given no function for it."""
    return message if convert is None else convert(message)


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
