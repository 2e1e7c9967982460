"""A real gRPC server that answers as it is told: for the faults that a healthy model server does not have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from numpy.typing import NDArray

from contract.model import ModelContract
from contract.tensors import (
    PRECISION_KEY,
    decode_tensor,
    encode_tensor,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tests.helpers.tiny_model import VARIANTS, build_contract, expected_embeddings, expected_probabilities

Answer = Callable[[NDArray[np.uint8]], NDArray[Any]]
HELD_S = 300.0  # a call is not held longer, whatever becomes of its test


@dataclass
class ScriptedVersion:
    """The behaviour of one version.

    Attributes:
        contract: what `describe` tells; other bytes, if they are given instead.
        state: its ModelVersionStatus.State by name; only AVAILABLE answers.
        error_code: what its status says of loading.
        fault: status that Predict ends with.
        details: the text that comes with it.
        describe_fault: status that the `describe` signature ends with.
        delay_s: how long Predict takes, seconds.
        answer: images to the output `probabilities`; None computes what the tiny model would.
        claims: version number in its replies, if not its own.
        precision: that its replies name; None names none, as TensorFlow Serving.
        on_predict: called as a Predict begins.
        saliency: images to the output `saliency`; unless said otherwise the mean of each quarter's brightness.
        embedding: images to the output `embedding`; unless said otherwise what the tiny model would compute.
    """

    contract: ModelContract
    state: str = "AVAILABLE"
    error_code: int = 0
    contract_bytes: bytes | None = None
    fault: grpc.StatusCode | None = None
    details: str = "as told; /secret/path of the model server"
    describe_fault: grpc.StatusCode | None = None
    delay_s: float = 0.0
    answer: Answer | None = None
    claims: int | None = None
    precision: str | None = None
    on_predict: Callable[[], None] = field(default=lambda: None)
    saliency: Answer = field(default=lambda images: quarters(images))
    embedding: Answer = field(default=lambda images: expected_embeddings(images))
    _gate: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def __post_init__(self) -> None:
        self._gate.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep Predict calls that begin inside the block from ending before it is left."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def wait(self) -> None:
        """Wait as long as a Predict call takes."""
        time.sleep(self.delay_s)
        self._gate.wait(HELD_S)


def quarters(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean brightness of each quarter of each image, float32, shape (batch, 2, 2), in [0, 1]."""
    batch, height, width, _ = images.shape
    cells = images.reshape(batch, 2, height // 2, 2, width // 2, 3)
    return np.asarray(cells.mean(axis=(2, 4, 5)) / 255, np.float32)


def scripted(variant: str = "plain", **behaviour: Any) -> ScriptedVersion:
    """Return a version that behaves as a tiny model's variant, but for what is said otherwise."""
    return ScriptedVersion(build_contract(VARIANTS[variant]), **behaviour)


class ScriptedBackend:
    """The server; use it in a `with`.

    Args:
        where: a socket's path, or host:port, whose port may be 0.

    Attributes:
        address: where it listens, once it has started.
        health: its grpc.health.v1, if it has one.
        versions: what it serves, by name and version; change it at any time.
        predictions: (name, version asked for or None, number of images) of each `serving_default` call.
        descriptions: (name, version) of each `describe` call.
        times_left: seconds that each `serving_default` call's caller would still wait.
        explained: the class indices of each `explain` call.
        metadata: gRPC metadata of each Predict call.
        omitted: outputs that are left out of replies.
        status_fault: status that GetModelStatus ends with.
    """

    def __init__(self, where: Path | str) -> None:
        self.address = where if isinstance(where, str) else f"unix:{where}"
        self.health: HealthServicer | None = None
        self.versions: dict[tuple[str, int], ScriptedVersion] = {}
        self.predictions: list[tuple[str, int | None, int]] = []
        self.descriptions: list[tuple[str, int]] = []
        self.times_left: list[float] = []
        self.explained: list[list[int]] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.omitted: set[str] = set()
        self.status_fault: grpc.StatusCode | None = None
        self._lock = threading.Lock()
        self._server: Any = None

    def __enter__(self) -> ScriptedBackend:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        options = (
            ("grpc.max_receive_message_length", 256 << 20),
            ("grpc.max_send_message_length", 256 << 20),
            ("grpc.so_reuseport", 0),
        )
        self._server = grpc.server(ThreadPoolExecutor(16), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        if self.health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        port = self._server.add_insecure_port(self.address)
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        self._server.start()

    def stop(self) -> None:
        """Stop listening, and drop the calls under way."""
        self._server.stop(0).wait(10)

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        name = request.model_spec.name
        asked = int(request.model_spec.version.value) if request.model_spec.HasField("version") else None
        version = self._newest(name) if asked is None else asked
        behaviour = self.versions.get((name, version))
        if behaviour is None or behaviour.state != "AVAILABLE":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {version})")
        if request.model_spec.signature_name == "describe":
            outputs = {"contract": self._describe(name, version, behaviour, context)}
        else:
            images = decode_tensor(request.inputs["images"])
            with self._lock:
                self.predictions.append((name, asked, len(images)))
                self.times_left.append(context.time_remaining())
            outputs = {"probabilities": self._classify(images, behaviour, context)}
            if request.model_spec.signature_name == "explain":
                self.explained.append(decode_tensor(request.inputs["class_index"]).tolist())
                outputs["saliency"] = behaviour.saliency(images)
            if request.model_spec.signature_name == "embed":
                outputs["embedding"] = behaviour.embedding(images)
        if behaviour.precision is not None:
            context.set_trailing_metadata(((PRECISION_KEY, behaviour.precision),))
        reply = predict_pb2.PredictResponse()
        reply.model_spec.name = name
        reply.model_spec.version.value = version if behaviour.claims is None else behaviour.claims
        for alias in request.output_filter:
            if alias in outputs.keys() - self.omitted:
                reply.outputs[alias].CopyFrom(encode_tensor(outputs[alias]))
        return reply

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.status_fault is not None:
            context.abort(self.status_fault, "as told")
        reply = get_model_status_pb2.GetModelStatusResponse()
        for (name, version), behaviour in self.versions.items():
            if name == request.model_spec.name:
                state = get_model_status_pb2.ModelVersionStatus.State.Value(behaviour.state)
                item = reply.model_version_status.add(version=version, state=state)
                item.status.error_code = behaviour.error_code
        if not reply.model_version_status:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {request.model_spec.name}")
        return reply

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not asked for by the gateway")

    # The services' other calls, which their registration asks for.
    Classify = Regress = MultiInference = HandleReloadConfigRequest = GetModelMetadata

    def _newest(self, name: str) -> int:
        available = [v for (n, v), item in self.versions.items() if n == name and item.state == "AVAILABLE"]
        return max(available, default=0)

    def _describe(
        self, name: str, version: int, behaviour: ScriptedVersion, context: grpc.ServicerContext
    ) -> NDArray[Any]:
        with self._lock:
            self.descriptions.append((name, version))
        if behaviour.describe_fault is not None:
            context.abort(behaviour.describe_fault, "as told")
        return np.array([behaviour.contract_bytes or behaviour.contract.to_json().encode()], dtype=object)

    def _classify(
        self, images: NDArray[np.uint8], behaviour: ScriptedVersion, context: grpc.ServicerContext
    ) -> NDArray[Any]:
        behaviour.on_predict()
        behaviour.wait()
        if images.shape[1:] != behaviour.contract.input.shape:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expected {behaviour.contract.input.shape}")
        if behaviour.fault is not None:
            context.abort(behaviour.fault, behaviour.details)
        if behaviour.answer is not None:
            return behaviour.answer(images)
        labels = tuple(label.id for label in behaviour.contract.labels)
        return expected_probabilities(images, labels)
