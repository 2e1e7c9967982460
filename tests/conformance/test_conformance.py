"""The same calls to our server and, where there is one, to TensorFlow Serving are answered the same."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from contract.tensors import get_model_status_pb2
from tests.conformance.cases import CASES, Case
from tests.helpers.model_client import AVAILABLE, ModelClient, build_request
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, expected_probabilities

SERVICES = {
    "GetModelStatus": "tensorflow.serving.ModelService",
    "HandleReloadConfigRequest": "tensorflow.serving.ModelService",
}
IMAGES = np.random.default_rng(3).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


def call(client: ModelClient, method: str, request: Any) -> bytes:
    """Call a method by name and return the reply's bytes."""
    service = SERVICES.get(method, "tensorflow.serving.PredictionService")
    return client.channel.unary_unary(f"/{service}/{method}")(request.SerializeToString(), timeout=30)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_wrong_call_gets_the_same_status(peer: ModelClient, case: Case) -> None:
    """Code and message are TensorFlow Serving's, to the letter where it words them itself."""
    with pytest.raises(grpc.RpcError) as caught:
        call(peer, case.method, case.request())
    assert caught.value.code().name == case.code
    if case.text is not None:
        assert caught.value.details() == case.text


@pytest.mark.parametrize("version", [None, 1, 2])
def test_predictions_say_who_answered(peer: ModelClient, version: int | None) -> None:
    """Probabilities, and the model, version and signature that were really used."""
    response = peer.call(build_request(MODEL_NAME, {"images": IMAGES}, version=version))
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (MODEL_NAME, version or 2, "serving_default")
    labels = VARIANTS["plain" if version == 1 else "permuted"].labels
    actual = peer.predict(MODEL_NAME, {"images": IMAGES}, version=version)
    assert list(actual) == ["probabilities"]
    np.testing.assert_allclose(actual["probabilities"], expected_probabilities(IMAGES, labels), atol=1e-5)


def test_describe_and_filtered_outputs(peer: ModelClient) -> None:
    """Texts come back row by row, and only the outputs of the filter."""
    described = peer.predict(MODEL_NAME, {"row": np.zeros(2, np.int32)}, signature="describe")
    assert len(described["contract"]) == 2 and described["contract"][0].startswith(b"{")
    inputs = {"images": IMAGES, "class_index": np.array([-1, 0, 2], np.int32)}
    explained = peer.predict(MODEL_NAME, inputs, signature="explain", outputs=["saliency"])
    assert {name: array.shape for name, array in explained.items()} == {"saliency": (3, 4, 4)}


def test_metadata_has_the_signatures(peer: ModelClient) -> None:
    """GetModelMetadata returns inputs and outputs of the three signatures."""
    signatures = peer.metadata(MODEL_NAME)
    assert {"describe", "explain", "serving_default"} <= set(signatures)
    sizes = [dim.size for dim in signatures["serving_default"].inputs["images"].tensor_shape.dim]
    assert sizes == [-1, 16, 16, 3]


def test_status_does_not_look_at_labels(peer: ModelClient) -> None:
    """GetModelStatus with a version_label, even an unknown one, returns every version, newest first."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL_NAME
    request.model_spec.version_label = "nothing"
    response = peer.models.GetModelStatus(request, timeout=30)
    states = [(status.version, status.state) for status in response.model_version_status]
    assert states == [(2, AVAILABLE), (1, AVAILABLE)]
