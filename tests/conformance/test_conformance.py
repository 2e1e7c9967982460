"""Wrong calls are answered as TensorFlow Serving answers them."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from contract.tensors import get_model_status_pb2
from tests.conformance.cases import CASES, LEFT_OUT, Case
from tests.helpers.model_client import AVAILABLE, ModelClient
from tests.helpers.tiny_model import MODEL_NAME

SERVICES = {
    "GetModelStatus": "tensorflow.serving.ModelService",
    "HandleReloadConfigRequest": "tensorflow.serving.ModelService",
}


def call(client: ModelClient, method: str, request: Any) -> bytes:
    """Call a method by name and return the reply's bytes."""
    service = SERVICES.get(method, "tensorflow.serving.PredictionService")
    return client.channel.unary_unary(f"/{service}/{method}")(request.SerializeToString(), timeout=30)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_wrong_call_gets_the_same_status(model_client: ModelClient, case: Case) -> None:
    """Code and message are TensorFlow Serving's, to the letter where it words them itself."""
    with pytest.raises(grpc.RpcError) as caught:
        call(model_client, case.method, case.request())
    assert caught.value.code().name == case.code
    if case.text is not None:
        assert caught.value.details() == case.text


def test_a_wrong_shape_is_named(model_client: ModelClient) -> None:
    """Our own text for a wrong shape names the input, what was expected and what was received."""
    with pytest.raises(grpc.RpcError) as caught:
        model_client.predict(MODEL_NAME, {"images": np.zeros((1, 9, 9, 3), np.uint8)})
    assert caught.value.details() == "images: expected shape [-1, 16, 16, 3]. Received: [1, 9, 9, 3]"


def test_status_does_not_look_at_labels(model_client: ModelClient) -> None:
    """GetModelStatus with a version_label, even an unknown one, returns every version."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL_NAME
    request.model_spec.version_label = "nothing"
    response = model_client.models.GetModelStatus(request, timeout=30)
    states = [(status.version, status.state) for status in response.model_version_status]
    assert states == [(2, AVAILABLE), (1, AVAILABLE)]


@pytest.mark.parametrize(("method", "message"), LEFT_OUT, ids=[method for method, _ in LEFT_OUT])
def test_what_is_left_out_says_so(model_client: ModelClient, method: str, message: Any) -> None:
    """Methods that are not there answer UNIMPLEMENTED in plain words that name a way round."""
    with pytest.raises(grpc.RpcError) as caught:
        call(model_client, method, message())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details().startswith(f"{method} is not implemented by Fovea's model server; ")
