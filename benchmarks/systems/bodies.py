"""Pictures as request bodies."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import numpy as np

from contract.image import decode_image
from contract.model import InputSpec
from contract.tensors import encode_tensor, predict_pb2

Body = tuple[bytes, dict[str, str]]
Wrap = Callable[[bytes, int], Body]  # a JPEG file's bytes and how often it is sent -> body and headers

_BOUNDARY = "benchmark-5f1c"
_SPEC = InputSpec(224, 224)


def raw(picture: bytes, copies: int) -> Body:
    """Return the file itself.

    Raises:
        ValueError: if there is more than one picture to send.
    """
    if copies != 1:
        raise ValueError(f"expected one picture in a raw body. Received: {copies}")
    return picture, {"Content-Type": "image/jpeg"}


def form(key: str) -> Wrap:
    """Return what makes multipart bodies with the field `key` once for each picture."""

    def wrap(picture: bytes, copies: int) -> Body:
        part = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"; filename="picture.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode() + picture
        body = b"\r\n".join([part] * copies) + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}

    return wrap


def base64_json(key: str) -> Wrap:
    """Return what makes JSON objects with the picture in base64 under `key`."""

    def wrap(picture: bytes, copies: int) -> Body:
        if copies != 1:
            raise ValueError(f"expected one picture in a JSON object. Received: {copies}")
        body = json.dumps({key: base64.b64encode(picture).decode()}).encode()
        return body, {"Content-Type": "application/json"}

    return wrap


def pixels_json(picture: bytes, copies: int) -> Body:
    """Return decoded pixels as TensorFlow Serving's REST predict takes them."""
    pixels = decode_image(picture, _SPEC).tolist()
    body = json.dumps({"signature_name": "serving_default", "instances": [pixels] * copies}, separators=(",", ":"))
    return body.encode(), {"Content-Type": "application/json"}


def pixels_proto(model: str) -> Wrap:
    """Return what makes PredictRequests with decoded pixels."""

    def wrap(picture: bytes, copies: int) -> Body:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = "serving_default"
        request.inputs["images"].CopyFrom(encode_tensor(np.stack([decode_image(picture, _SPEC)] * copies)))
        return request.SerializeToString(), {}

    return wrap
