"""Calls the model server over gRPC: signatures on images, signatures on any tensors, metadata, states."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from contract.errors import ContractError, TensorError
from contract.model import ModelContract
from contract.tensors import (
    FLOAT32,
    MAX_MESSAGE_BYTES,
    PRECISION_KEY,
    decode_tensor,
    encode_predict_request,
    encode_string_request,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from service.gateway.backend.retries import MAX_TRIES, RetryBudget, call
from service.gateway.context.deadlines import limit_to_deadline
from service.gateway.context.errors import BrokenContractError, InvalidArgumentError

AVAILABLE: Final = "AVAILABLE"

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A restarted model server is found again within a second; gRPC's default grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The model server is a neighbour; a proxy meant for the internet must not carry patients' images.
    ("grpc.enable_http_proxy", 0),
    # Retries are ours: they have a budget.
    ("grpc.enable_retries", 0),
)
# Codes that a client's own numbers can cause; for numbers that the gateway prepared they are a broken contract.
_CLIENTS_FAULT: Final = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
_TELLING: Final = ("serving_default", "describe")  # signatures whose replies say at which precision a version predicts
_PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"

Metadata = Callable[[], Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class ModelReply:
    """The model server's answer about images.

    Attributes:
        version: the version that really answered.
        outputs: floating-point arrays by name; the first axis is the images', other axes are not checked yet.
        precision: that they were computed at; float32 where the model server does not say, as TensorFlow Serving.
    """

    version: int
    outputs: Mapping[str, NDArray[np.floating]]
    precision: str = FLOAT32


@dataclass(frozen=True, slots=True)
class TensorOutputs:
    """The model server's answer about tensors.

    Attributes:
        outputs: arrays by name.
        precision: that they were computed at.
    """

    outputs: Mapping[str, NDArray[Any]]
    precision: str = FLOAT32


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version's state on the model server.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN.
        error_code: name of a gRPC status; "OK" unless loading it failed.
    """

    version: int
    state: str
    error_code: str


class Backend:
    """A connection to one model server, which need not be there yet. Making this object touches nothing.

    Args:
        address: host:port, or unix:/path.
        timeout_s: longest wait for one reply, seconds.
        metadata: returns gRPC metadata for the call that is made now; None for none.
        tries: most calls for one Predict.
        options: of the channel, beside those that every channel has.
        on_change: called when the state of the connection has changed.
        connect: opens a channel, in the event loop that will use it; by default one of gRPC to the address.

    Attributes:
        generation: grows whenever the connection is lost; facts about versions are stale then.
        state: of the connection.
        precisions: at which versions predict, by name and version, as their last answer said.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float,
        metadata: Metadata | None = None,
        tries: int = MAX_TRIES,
        options: Sequence[tuple[str, int]] = (),
        on_change: Callable[[], None] = lambda: None,
        connect: Callable[[], Any] | None = None,
    ) -> None:
        self.generation = 0
        self.state = grpc.ChannelConnectivity.IDLE
        self.precisions: dict[tuple[str, int], str] = {}
        self._metadata = metadata
        self._address = address
        self._timeout_s = timeout_s
        self._tries = tries
        self._options = options
        self._on_change = on_change
        self._connect = connect or self._open_channel
        self._retries = RetryBudget()
        self._channel: Any = None
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start connecting; call it in the event loop that will use the backend."""
        self._channel = self._connect()
        # Requests are serialised already.
        self._predict_call = self._channel.unary_unary(
            _PREDICT, response_deserializer=predict_pb2.PredictResponse.FromString
        )
        self._metadata_call = prediction_service_pb2_grpc.PredictionServiceStub(self._channel).GetModelMetadata
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._watch = asyncio.create_task(self._watch_connection())

    async def close(self) -> None:
        """Close the connection; calls under way are given up."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._channel is not None:
            await self._channel.close()

    async def infer(
        self,
        name: str,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        outputs: Sequence[str],
        version: int | None = None,
        deadline: float | None = None,
    ) -> ModelReply:
        """Run a signature on images.

        Args:
            name: the model.
            signature: its signature.
            inputs: arrays by name, with the batch as first axis; "images" is one of them.
            outputs: names of those to fetch, each with a row for each image.
            version: which version must answer; None leaves it to the model server (its newest).
            deadline: when the client stops waiting; see `RequestContext`.

        Raises:
            NotLoadedError: if that version is not loaded.
            BrokenContractError: if the reply lacks an output or a row of it, or another version answered.
            GatewayError: if the model server fails, by `call_errors`.
        """
        reply, precision = await self._predict(
            name, signature, version=version, inputs=inputs, outputs=outputs, deadline=deadline
        )
        found = {alias: _read_output(reply, alias) for alias in outputs}
        for alias, array in found.items():
            _check_rows(name, alias, array, num_images=len(inputs["images"]))
        return ModelReply(int(reply.model_spec.version.value), found, precision)

    async def describe(self, name: str, version: int) -> ModelContract:
        """Return a version's contract, as the model itself tells it.

        Raises:
            NotLoadedError: if that version is not loaded.
            BrokenContractError: if it has no contract, or a broken one.
            GatewayError: if the model server fails, by `call_errors`.
        """
        row = np.zeros(1, dtype=np.int32)
        reply, _ = await self._predict(name, "describe", version=version, inputs={"row": row}, outputs=["contract"])
        texts = _read_output(reply, "contract").reshape(-1).tolist()
        if len(texts) != 1 or not isinstance(texts[0], bytes):
            raise BrokenContractError(f"{name}/{version}: `describe` gave {len(texts)} values; one text is expected")
        try:
            return ModelContract.from_json(texts[0])
        except ContractError as err:
            raise BrokenContractError(f"{name}/{version} has a broken contract: {err}") from err

    async def run(
        self,
        name: str,
        signature: str,
        *,
        version: int,
        inputs: Mapping[str, NDArray[Any]],
        deadline: float | None = None,
    ) -> TensorOutputs:
        """Run any signature on a client's own numbers and return all its outputs by name.

        Raises:
            InvalidArgumentError: if the model refuses the inputs.
            NotLoadedError: if that version is not loaded.
            GatewayError: if the model server fails, by `call_errors`.
        """
        try:
            reply, precision = await self._predict(
                name, signature, version=version, inputs=inputs, outputs=(), deadline=deadline
            )
        except BrokenContractError as err:
            cause = err.__cause__
            if isinstance(cause, grpc.aio.AioRpcError) and cause.code() in _CLIENTS_FAULT:
                raise InvalidArgumentError(f"the model refused the inputs of {signature!r}") from cause
            raise
        return TensorOutputs({alias: _read_output(reply, alias) for alias in reply.outputs}, precision)

    async def signatures(self, name: str, version: int, *, deadline: float | None = None) -> dict[str, Any]:
        """Return a version's SignatureDef messages by signature name.

        Raises:
            NotLoadedError: if that version is not loaded.
            GatewayError: if the model server fails, by `call_errors`.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = name
        request.model_spec.version.value = version
        reply = await self._call(self._metadata_call, request, deadline=deadline)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        reply.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    async def status(self, name: str, *, deadline: float | None = None) -> tuple[VersionStatus, ...]:
        """Return the state of every version that the model server knows, newest first.

        Raises:
            NotLoadedError: if it knows none.
            GatewayError: if the model server fails, by `call_errors`.
        """
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=name))
        reply = await self._call(self._status.GetModelStatus, request, deadline=deadline)
        found = [
            VersionStatus(int(item.version), _state_name(item.state), _code_name(item.status.error_code))
            for item in reply.model_version_status
        ]
        return tuple(sorted(found, key=lambda status: -status.version))

    async def watch_health(self) -> AsyncIterator[bool]:
        """Yield whether the model server wants calls, once it is connected and after each change, until it stops.

        Raises:
            grpc.aio.AioRpcError: if the connection is lost; UNIMPLEMENTED if it has no grpc.health.v1.
        """
        async for reply in self._health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
            yield reply.status == health_pb2.HealthCheckResponse.SERVING

    async def _predict(
        self,
        name: str,
        signature: str,
        *,
        version: int | None,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        deadline: float | None = None,
    ) -> tuple[Any, str]:
        """Return the reply, and the precision that it says."""
        has_strings = any(array.dtype.kind == "O" for array in inputs.values())
        encode = encode_string_request if has_strings else encode_predict_request
        request = encode(name, signature, version=version, inputs=inputs, outputs=outputs)
        self._retries.count_call()
        reply, precision = await self._call(self._predict_once, request, tries=self._tries, deadline=deadline)
        if version is not None and reply.model_spec.version.value != version:
            raise BrokenContractError(
                f"expected an answer of {name}/{version}. Received: version {reply.model_spec.version.value}"
            )
        if signature in _TELLING:
            self.precisions[name, int(reply.model_spec.version.value)] = precision
        return reply, precision

    async def _predict_once(self, request: bytes, **options: Any) -> tuple[Any, str]:
        made = self._predict_call(request, **options)
        reply = await made
        for key, value in await made.trailing_metadata() or ():
            if key == PRECISION_KEY:
                return reply, value
        return reply, FLOAT32

    def _call(self, method: Any, request: Any, *, tries: int = 1, deadline: float | None = None) -> Awaitable[Any]:
        if self._metadata is not None:
            method = functools.partial(method, metadata=self._metadata())
        timeout_s = limit_to_deadline(self._timeout_s, deadline)
        return call(method, request, timeout_s=timeout_s, tries=tries, budget=self._retries)

    def _open_channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._address, options=(*_CHANNEL_OPTIONS, *self._options))

    async def _watch_connection(self) -> None:
        """Count lost connections: a model server that comes back may serve other models under the same numbers."""
        state = self._channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.SHUTDOWN:
            await self._channel.wait_for_state_change(state)
            previous, state = state, self._channel.get_state(try_to_connect=True)
            self.state = state
            if previous is grpc.ChannelConnectivity.READY:
                self.generation += 1
            self._on_change()


def _check_rows(name: str, alias: str, array: NDArray[Any], *, num_images: int) -> None:
    if array.dtype.kind != "f":
        raise BrokenContractError(
            f"{name}: expected floating-point {alias} from the model server. Received: {array.dtype}"
        )
    if array.ndim < 2 or len(array) != num_images:
        raise BrokenContractError(
            f"expected {alias} of {num_images} images from the model server. Received: shape {array.shape}"
        )


def _read_output(reply: Any, alias: str) -> NDArray[Any]:
    if alias not in reply.outputs:
        raise BrokenContractError(f"expected the output {alias!r} from the model server. Received: no such output")
    try:
        return decode_tensor(reply.outputs[alias])
    except TensorError as err:
        raise BrokenContractError(f"the output {alias!r} is not a tensor: {err}") from err


def _state_name(number: int) -> str:
    try:
        name: str = get_model_status_pb2.ModelVersionStatus.State.Name(number)
    except ValueError:
        return "UNKNOWN"
    return name


def _code_name(number: int) -> str:
    """Return the name of a status number; TensorFlow's codes are gRPC's."""
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), "UNKNOWN")
