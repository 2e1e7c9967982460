"""One table of wrong calls and their answers: what TensorFlow Serving says to each, word for word.

The server under test has the tiny model `colours` in versions 1 and 2. Texts are TensorFlow Serving's own where it
words them itself; where they come from inside a graph, and so differ by engine, `text` is None and only the code
counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.tensors import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    tensor_pb2,
    types_pb2,
)
from tests.helpers.model_client import build_request
from tests.helpers.tiny_model import MODEL_NAME

_INVALID, _PRECONDITION, _NOT_FOUND = "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"
IMAGES: NDArray[np.uint8] = np.zeros((2, 16, 16, 3), np.uint8)
MODEL = {"name": MODEL_NAME, "base_path": f"/models/{MODEL_NAME}", "model_platform": "tensorflow"}
CLASS_INDEX = np.array([-1, -1], np.int32)


@dataclass(frozen=True)
class Case:
    """A call and the status that it is answered with.

    Attributes:
        name: for the test's id.
        method: the RPC's name.
        request: makes the message.
        code: name of the gRPC status.
        text: its message, or None if that is the engine's own.
    """

    name: str
    method: str
    request: Callable[[], Any]
    code: str
    text: str | None


def _predict(
    name: str, code: str, text: str | None, *, inputs: Mapping[str, NDArray[Any]] | None = None, **details: Any
) -> Case:
    model = details.pop("model", MODEL_NAME)
    arrays = {"images": IMAGES} if inputs is None else inputs
    return Case(name, "Predict", lambda: build_request(model, arrays, **details), code, text)


def _metadata(name: str, code: str, text: str, *, model: str | None, fields: list[str], **choice: Any) -> Case:
    def request() -> Any:
        message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        if model is not None:
            message.model_spec.CopyFrom(build_request(model, {}, **choice).model_spec)
        return message

    return Case(name, "GetModelMetadata", request, code, text)


def _status(name: str, code: str, text: str, *, model: str | None, version: int | None = None) -> Case:
    def request() -> Any:
        message = get_model_status_pb2.GetModelStatusRequest()
        if model is not None:
            message.model_spec.name = model
        if version is not None:
            message.model_spec.version.value = version
        return message

    return Case(name, "GetModelStatus", request, code, text)


def _reload(name: str, text: str, *models: Mapping[str, str]) -> Case:
    """A configuration that is refused before anything of it is applied, so that the servers stay as they are."""

    def request() -> Any:
        message = model_management_pb2.ReloadConfigRequest()
        for model in models:
            message.config.model_config_list.config.add(**model)
        return message

    return Case(name, "HandleReloadConfigRequest", request, _INVALID, text)


@dataclass(frozen=True)
class _Wire:
    """Bytes as a client may send them and no message object can hold them."""

    data: bytes

    def SerializeToString(self) -> bytes:
        return self.data


def _both(*, last: str) -> Callable[[], Any]:
    """Return a request with version 99 and the label `stable`, the `last` of them at the end."""
    spec = build_request(MODEL_NAME, {"images": IMAGES}).SerializeToString()
    more = {
        "version": build_request(MODEL_NAME, {}, version=99),
        "label": build_request(MODEL_NAME, {}, label="stable"),
    }
    first = next(name for name in more if name != last)
    return lambda: _Wire(spec + more[first].SerializeToString() + more[last].SerializeToString())


def _unparsable() -> Any:
    request = build_request(MODEL_NAME, {})
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8, tensor_content=b"123")
    tensor.tensor_shape.dim.add().size = 5
    request.inputs["images"].CopyFrom(tensor)
    return request


_LONG = "x" * 2000
_UNKNOWN_OUTPUT = "output tensor alias not found in signature: {} Outputs expected to be in the set {{probabilities}}."

CASES = (
    _predict("no model_spec", _INVALID, "Missing ModelSpec", model=None),
    _predict("empty model name", _INVALID, "ModelSpec has no name specified.", model="", signature="serving_default"),
    _predict("unknown model", _NOT_FOUND, "Servable not found for request: Latest(nobody)", model="nobody"),
    _predict("unknown version", _NOT_FOUND, "Servable not found for request: Specific(colours, 99)", version=99),
    _predict("version zero", _NOT_FOUND, "Servable not found for request: Specific(colours, 0)", version=0),
    _predict("unknown label", _INVALID, "Unrecognized servable version label: stable", label="stable"),
    Case(
        "version after a label",
        "Predict",
        _both(last="version"),
        _NOT_FOUND,
        "Servable not found for request: Specific(colours, 99)",
    ),
    Case(
        "label after a version",
        "Predict",
        _both(last="label"),
        _INVALID,
        "Unrecognized servable version label: stable",
    ),
    _predict(
        "label of an unknown model",
        _INVALID,
        "Unrecognized servable version label: stable",
        model="nobody",
        label="stable",
    ),
    _predict("unknown signature", _PRECONDITION, 'Serving signature key "nothing" not found.', signature="nothing"),
    _predict(
        "long signature name is cut",
        _PRECONDITION,
        f'Serving signature key "{_LONG}" not found.'[:1024] + "...TRUNCATED",
        signature=_LONG,
    ),
    _predict(
        "no inputs",
        _INVALID,
        "input size does not match signature: 0!=1 len({}) != len({images}). Sent extra: {}. "
        "Missing but required: {images}.",
        inputs={},
    ),
    _predict(
        "one input too many",
        _INVALID,
        "input size does not match signature: 2!=1 len({images,other}) != len({images}). Sent extra: {other}. "
        "Missing but required: {}.",
        inputs={"images": IMAGES, "other": IMAGES},
    ),
    _predict(
        "one input too few",
        _INVALID,
        "input size does not match signature: 1!=2 len({images}) != len({class_index,images}). Sent extra: {}. "
        "Missing but required: {class_index}.",
        signature="explain",
    ),
    _predict(
        "input of another name",
        _INVALID,
        "Signature input alias: images(feed name: serving_default_images:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {pictures}, or default input alias set: ",
        inputs={"pictures": IMAGES},
    ),
    Case("tensor that does not parse", "Predict", _unparsable, _INVALID, "tensor parsing error: images"),
    _predict("unknown output", _INVALID, _UNKNOWN_OUTPUT.format("logits"), outputs=["logits"]),
    _predict(
        "output asked twice",
        _INVALID,
        "duplicate output tensor alias: probabilities",
        outputs=["probabilities", "probabilities"],
    ),
    _predict(
        "float for uint8",
        _INVALID,
        "Expects arg[0] to be uint8 but float is provided",
        inputs={"images": IMAGES.astype(np.float32)},
    ),
    _predict(
        "string for uint8",
        _INVALID,
        "Expects arg[0] to be uint8 but string is provided",
        inputs={"images": np.array([b"\xff\xd8"], dtype=object)},
    ),
    _predict(
        "int64 for the first of two inputs",
        _INVALID,
        "Expects arg[0] to be int32 but int64 is provided",
        inputs={"images": IMAGES, "class_index": CLASS_INDEX.astype(np.int64)},
        signature="explain",
    ),
    _predict(
        "float for the second of two inputs",
        _INVALID,
        "Expects arg[1] to be uint8 but float is provided",
        inputs={"images": IMAGES.astype(np.float32), "class_index": CLASS_INDEX},
        signature="explain",
    ),
    _predict("image of another size", _INVALID, None, inputs={"images": np.zeros((1, 9, 9, 3), np.uint8)}),
    _predict("one channel", _INVALID, None, inputs={"images": np.zeros((1, 16, 16, 1), np.uint8)}),
    _predict("no batch axis", _INVALID, None, inputs={"images": np.zeros((16, 16, 5), np.uint8)}),
    _predict(
        "batches that differ",
        _INVALID,
        None,
        inputs={"images": IMAGES, "class_index": np.array([-1, -1, -1], np.int32)},
        signature="explain",
    ),
    _predict(
        "class that does not exist",
        _INVALID,
        None,
        inputs={"images": IMAGES, "class_index": np.array([0, 99], np.int32)},
        signature="explain",
    ),
    _metadata("metadata without model_spec", _INVALID, "Missing ModelSpec", model=None, fields=["signature_def"]),
    _metadata(
        "metadata without field",
        _INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
        model=MODEL_NAME,
        fields=[],
    ),
    _metadata(
        "metadata with unknown field",
        _INVALID,
        "Metadata field weights is not supported",
        model=MODEL_NAME,
        fields=["signature_def", "weights"],
    ),
    _metadata(
        "metadata of unknown model",
        _NOT_FOUND,
        "Servable not found for request: Latest(nobody)",
        model="nobody",
        fields=["signature_def"],
    ),
    _metadata(
        "metadata of empty name", _INVALID, "ModelSpec has no name specified.", model="", fields=["signature_def"]
    ),
    _metadata(
        "metadata of unknown version",
        _NOT_FOUND,
        "Servable not found for request: Specific(colours, 99)",
        model=MODEL_NAME,
        fields=["signature_def"],
        version=99,
    ),
    _metadata(
        "metadata of unknown label",
        _INVALID,
        "Unrecognized servable version label: stable",
        model=MODEL_NAME,
        fields=["signature_def"],
        label="stable",
    ),
    _metadata(
        "metadata fields are looked at before the model",
        _INVALID,
        "Metadata field weights is not supported",
        model="nobody",
        fields=["weights"],
    ),
    _status("status of empty name", _NOT_FOUND, "Could not find any versions of model ", model=""),
    _status("status without model_spec", _INVALID, "Missing ModelSpec", model=None),
    _status("status of unknown model", _NOT_FOUND, "Could not find any versions of model nobody", model="nobody"),
    _status(
        "status of unknown version",
        _NOT_FOUND,
        "Could not find version 99 of model colours",
        model=MODEL_NAME,
        version=99,
    ),
    _reload(
        "reload without a list",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported",
    ),
    _reload(
        "reload with a model twice", f"Illegal to list model {MODEL_NAME} multiple times in config list", MODEL, MODEL
    ),
    _reload(
        "reload with a relative path",
        f"Expected model {MODEL_NAME} to have an absolute path or URI; got base_path()=colours",
        MODEL | {"base_path": "colours"},
    ),
    _reload(
        "reload with an empty path",
        f"Expected model {MODEL_NAME} to have an absolute path or URI; got base_path()=",
        MODEL | {"base_path": ""},
    ),
    _reload(
        "reload without a platform",
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.",
        MODEL | {"model_platform": ""},
    ),
    _reload(
        "reload with another platform",
        f"Illegal to change a model's platform. For model {MODEL_NAME} platform was tensorflow and new platform "
        "requested is pytorch",
        MODEL | {"model_platform": "pytorch"},
    ),
    _reload(
        "reload with a relative path behind another platform",
        "Expected model other to have an absolute path or URI; got base_path()=other",
        MODEL | {"model_platform": "pytorch"},
        {"name": "other", "base_path": "other"},
    ),
)


def describe() -> list[str]:
    """Returns the page's table of the calls and their answers."""
    lines = ["", "| call | case | answer |", "|---|---|---|"]
    for case in CASES:
        words = f"{case.code}, in the engine's words" if case.text is None else f"{case.code}: `{_shorten(case.text)}`"
        lines.append(f"| `{case.method}` | {case.name} | {words} |")
    return [*lines, ""]


def _shorten(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
