"""Other people's clients of TensorFlow Serving's gRPC, in a process of their own: their message classes would clash.

python -m tests.helpers.strangers CLIENT ADDRESS MODEL     prints what the client got, as JSON
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

IMAGES = np.stack([np.full((16, 16, 3), 40, np.uint8)] * 2)
IMAGES[0, ..., 1] = 200  # green, then blue
IMAGES[1, ..., 2] = 200


def ask_with_ovmsclient(address: str, model: str) -> dict[str, Any]:
    """Ask with OpenVINO Model Server's client."""
    import ovmsclient

    client = ovmsclient.make_grpc_client(address)
    # Without a version it asks for version 0, which TensorFlow Serving does not take for "any" either.
    status = {number: client.get_model_status(model, number)[number] for number in (1, 2)}
    metadata = client.get_model_metadata(model_name=model, model_version=1)
    probabilities = client.predict({"images": IMAGES}, model, model_version=1)
    return {
        "states": {str(version): state["state"] for version, state in status.items()},
        "shape": metadata["inputs"]["images"]["shape"],
        "probabilities": np.asarray(probabilities).tolist(),
    }


def ask_with_tensorflow_serving_api(address: str, model: str) -> dict[str, Any]:
    """Ask as TensorFlow Serving's own examples do."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    with grpc.insecure_channel(address) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.version.value = 1
        request.model_spec.signature_name = "serving_default"
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(IMAGES))
        result = prediction.Predict(request, 60.0)
        asked = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        statuses = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked, 60.0).model_version_status
        fields = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec={"name": model}, metadata_field=["signature_def"]
        )
        packed = prediction.GetModelMetadata(fields, 60.0).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    packed.Unpack(signatures)
    shape = signatures.signature_def["serving_default"].inputs["images"].tensor_shape
    return {
        "states": {str(status.version): type(status).State.Name(status.state) for status in statuses},
        "shape": [dim.size for dim in shape.dim],
        "probabilities": tf.make_ndarray(result.outputs["probabilities"]).tolist(),
    }


CLIENTS = {"ovmsclient": ask_with_ovmsclient, "tensorflow-serving-api": ask_with_tensorflow_serving_api}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(CLIENTS[sys.argv[1]](sys.argv[2], sys.argv[3])))
