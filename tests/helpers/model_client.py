"""A plain gRPC client of a model server, on the published stubs: what tests ask with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from contract.tensors import (
    decode_tensor,
    encode_tensor,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

AVAILABLE, END = 30, 50
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 256 << 20),
    ("grpc.max_send_message_length", 256 << 20),
    ("grpc.enable_http_proxy", 0),
)


def build_request(
    model: str | None,
    inputs: Mapping[str, NDArray[Any]],
    *,
    signature: str = "",
    version: int | None = None,
    label: str | None = None,
    outputs: Sequence[str] = (),
) -> Any:
    """Return a PredictRequest; a model of None leaves the model_spec out."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    if model is not None:
        request.model_spec.name = model
        request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(encode_tensor(array))
    return request


class ModelClient:
    """Calls one model server; close it, or use it in a `with`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __enter__(self) -> ModelClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()

    def call(self, request: Any, *, timeout_s: float = 120.0) -> Any:
        """Send a PredictRequest and return the PredictResponse."""
        return self.prediction.Predict(request, timeout=timeout_s)

    def predict(self, model: str, inputs: Mapping[str, NDArray[Any]], **details: Any) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        response = self.call(build_request(model, inputs, **details))
        return {name: decode_tensor(proto) for name, proto in response.outputs.items()}

    def classify(self, model: str, image: NDArray[np.uint8], **details: Any) -> NDArray[np.float32]:
        """Return the probabilities of one image, shape (classes,)."""
        return self.predict(model, {"images": image[None]}, **details)["probabilities"][0]

    def metadata(self, model: str) -> dict[str, Any]:
        """Return the SignatureDef messages by name."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        response = self.prediction.GetModelMetadata(request, timeout=30)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    def status(self, model: str) -> dict[int, Any]:
        """Return the ModelVersionStatus messages by version; none for a model that the server does not know yet."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self.models.GetModelStatus(request, timeout=30)
        except grpc.RpcError as err:
            if err.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                return {}
            raise
        return {int(status.version): status for status in response.model_version_status}

    def states(self, model: str) -> dict[int, int]:
        """Return the states by version."""
        return {version: int(status.state) for version, status in self.status(model).items()}

    def wait_for(self, model: str, version: int, *, state: int = AVAILABLE, timeout_s: float = 120.0) -> None:
        """Wait until a version is in a state.

        Raises:
            TimeoutError: if it does not get there in time.
        """
        deadline = time.monotonic() + timeout_s
        while self.states(model).get(version) != state:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{model}/{version}: expected state {state}. Received: {self.status(model)}")
            time.sleep(0.05)
