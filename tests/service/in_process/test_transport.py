"""Calls within the process answer, refuse, time out and are cancelled as calls over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from contract.tensors import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from service.in_process.transport import InProcessServer

PREDICT = "/tensorflow.serving.PredictionService/Predict"
KINDS = ["in-process", "socket"]
MAX_BYTES = 4096
LIMITS = [("grpc.max_receive_message_length", MAX_BYTES), ("grpc.max_send_message_length", MAX_BYTES)]


class Echo(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Does what the model's name says."""

    def __init__(self) -> None:
        self.remaining: float | None = None
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()

    async def Predict(self, request: Any, context: Any) -> Any:
        """Answer, refuse or wait."""
        self.begun.set()
        self.remaining = context.time_remaining()
        if request.model_spec.name == "refuse":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much to do")
        if request.model_spec.name == "fail":
            raise ValueError("a fault")
        if request.model_spec.name == "wait":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        context.set_trailing_metadata((("fovea-precision", "bfloat16"),))
        reply = predict_pb2.PredictResponse(model_spec=request.model_spec)
        if request.model_spec.name == "grow":
            reply.outputs["large"].tensor_content = bytes(MAX_BYTES)
        return reply


class Raw(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A service that takes and gives bytes, with no functions that convert them."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of its one method."""

        async def answer(message: bytes, context: Any) -> bytes:
            return message[::-1]

        return grpc.unary_unary_rpc_method_handler(answer) if handler_call_details.method == "/raw/Turn" else None


@asynccontextmanager
async def serving(kind: str, folder: Path) -> AsyncIterator[tuple[Echo, Any]]:
    """Serve an `Echo`; give it and a channel to it."""
    echo = Echo()
    if kind == "in-process":
        own = InProcessServer(MAX_BYTES)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(echo, own)
        own.add_generic_rpc_handlers((Raw(),))
        yield echo, own.channel()
        return
    server = grpc.aio.server(options=LIMITS)
    server.add_generic_rpc_handlers((Raw(),))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(echo, server)
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{folder}/s", options=LIMITS) as channel:
        yield echo, channel
    await server.stop(None)


def request(name: str) -> bytes:
    """Return a serialised request."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = name
    serialised: bytes = message.SerializeToString()
    return serialised


def run(kind: str, folder: Path, use: Callable[[Echo, Any], Awaitable[None]]) -> None:
    """Run a test on a channel to an `Echo`, within bounds."""

    async def main() -> None:
        async with serving(kind, folder) as (echo, channel), asyncio.timeout(30):
            await use(echo, channel)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_reply_has_the_message_and_the_metadata(kind: str, tmp_path: Path) -> None:
    """Serialised requests and messages are both taken; without a deadline none is seen."""

    async def use(echo: Echo, channel: Any) -> None:
        call = channel.unary_unary(PREDICT, response_deserializer=predict_pb2.PredictResponse.FromString)
        made = call(request("a"))
        assert "a" == (await made).model_spec.name
        assert [("fovea-precision", "bfloat16")] == [tuple(pair) for pair in await made.trailing_metadata()]
        assert echo.remaining is None or echo.remaining > 1e6

        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        message = predict_pb2.PredictRequest()
        message.model_spec.name = "b"
        assert "b" == (await stub.Predict(message, timeout=20, metadata=(("key", "value"),))).model_spec.name
        assert 0 < (echo.remaining or 0) < 22  # gRPC rounds up

    run(kind, tmp_path, use)


@pytest.mark.parametrize("kind", KINDS)
def test_refusals_have_their_status(kind: str, tmp_path: Path) -> None:
    """A service's own; its fault, which is no fault of the caller; a service that is not there."""

    async def use(_: Echo, channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(PREDICT)(request("refuse"))
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "too much to do") == (caught.value.code(), caught.value.details())

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(PREDICT)(request("fail"))
        assert grpc.StatusCode.UNKNOWN is caught.value.code()
        assert "a fault" in str(caught.value.details())

        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(get_model_status_pb2.GetModelStatusRequest())
        assert (grpc.StatusCode.UNIMPLEMENTED, "Method not found!") == (caught.value.code(), caught.value.details())

    run(kind, tmp_path, use)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a" * MAX_BYTES, "grow"], ids=["request", "reply"])
def test_messages_are_bounded(kind: str, name: str, tmp_path: Path) -> None:
    """What is larger than the limit is refused; the next call is answered."""

    async def use(_: Echo, channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="message larger than max") as caught:
            await channel.unary_unary(PREDICT)(request(name))
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
        assert await channel.unary_unary(PREDICT)(request("a"))

    run(kind, tmp_path, use)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_passed_on_as_they_are(kind: str, tmp_path: Path) -> None:
    """Where neither side was given a function that converts them."""

    async def use(_: Echo, channel: Any) -> None:
        assert b"cba" == await channel.unary_unary("/raw/Turn")(b"abc")

    run(kind, tmp_path, use)


@pytest.mark.parametrize("kind", KINDS)
def test_deadline_ends_the_call_and_the_work(kind: str, tmp_path: Path) -> None:
    """The caller gets DEADLINE_EXCEEDED; the service is cancelled."""

    async def use(echo: Echo, channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(PREDICT)(request("wait"), timeout=0.2)
        assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
        await echo.cancelled.wait()

    run(kind, tmp_path, use)


@pytest.mark.parametrize("kind", KINDS)
def test_a_callers_own_timer_for_the_same_moment_ends_first(kind: str, tmp_path: Path) -> None:
    """So a client whose time is over is told so, and not that the model server was late."""

    async def use(_: Echo, channel: Any) -> None:
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await channel.unary_unary(PREDICT)(request("wait"), timeout=0.02)

    run(kind, tmp_path, use)


@pytest.mark.parametrize("kind", KINDS)
def test_caller_that_leaves_cancels_the_work(kind: str, tmp_path: Path) -> None:
    """Cancelling the caller's task cancels the service's."""

    async def use(echo: Echo, channel: Any) -> None:
        async def ask() -> None:
            await channel.unary_unary(PREDICT)(request("wait"))

        task = asyncio.create_task(ask())
        await echo.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await echo.cancelled.wait()

    run(kind, tmp_path, use)


def test_the_channel_is_ready_until_it_is_closed() -> None:
    """The end wakes a task that waits for a change of its state."""

    async def main() -> None:
        channel = InProcessServer().channel()
        ready = channel.get_state(try_to_connect=True)
        waiting = asyncio.create_task(channel.wait_for_state_change(ready))
        await asyncio.sleep(0)
        assert (grpc.ChannelConnectivity.READY, False) == (ready, waiting.done())
        await channel.close()
        await asyncio.wait_for(waiting, 10)
        assert grpc.ChannelConnectivity.SHUTDOWN is channel.get_state()

    asyncio.run(main())


def test_what_it_cannot_do_is_refused() -> None:
    """It listens on no address and carries no streams."""
    server = InProcessServer()
    with pytest.raises(RuntimeError, match=r"listens nowhere\. Received: 127\.0\.0\.1:0"):
        server.add_insecure_port("127.0.0.1:0")
    with pytest.raises(grpc.aio.AioRpcError, match=r"no streams\. Received: /a/b") as caught:
        server.channel().unary_stream("/a/b")()
    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()
