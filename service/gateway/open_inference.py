"""The Open Inference Protocol's JSON documents (KServe's v2): requests, replies, metadata of models.

Beyond the protocol, `BYTES` where a model of Fovea takes pixels are image files in base64 (`rest_prediction.py`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, ValidationError

from contract.tensors import types_pb2
from service.gateway.errors import BrokenContractError, InvalidArgumentError, TooManyImagesError
from service.gateway.request_context import current_request_id
from service.gateway.rest_format import dump_reply, load_object, to_json
from service.gateway.settings import MOST_IMAGES
from service.gateway.tensor_json import B64, TensorSpec, build_array, check_shape, echo, show_shape

SIGNATURE: Final = "signature_name"  # a parameter of requests
_NO_BINARY: Final = (
    'expected tensors as JSON: "data" in every input, no parameters for binary data. Received: a request for the '
    "extension for binary tensor data, which is not among the extensions that GET /v2 lists"
)
_MAX_RANK: Final = 32
_MAX_TENSORS: Final = 256
# TensorFlow's names of types, where the protocol's are others than the same in capitals.
_DATATYPES: Final = {"float": "FP32", "double": "FP64", "half": "FP16", "bfloat16": "BF16", "string": "BYTES"}


def _check_parameters(value: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(item, str | int | float) for item in value.values()):
        raise ValueError("expected texts, numbers and booleans")
    return value


Parameters = Annotated[
    dict[str, Any],
    AfterValidator(_check_parameters),
    Field(json_schema_extra={"additionalProperties": {"type": ["string", "number", "boolean"]}}),
]
Size = Annotated[int, Field(ge=0, le=2**64 - 1)]


class TensorMetadata(BaseModel):
    """What a model takes or gives."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 where any size will do.")


class Tensor(BaseModel):
    """An output."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] = Field(description="The elements, flat and row by row.")


class Named(BaseModel):
    """What a request says of an input or output alike."""

    model_config = ConfigDict(strict=True)

    name: str
    parameters: Parameters | None = None


class InputTensor(Named):
    """An input."""

    datatype: str
    shape: Annotated[list[Size], FailFast(), Field(max_length=_MAX_RANK)]
    data: list[Any] = Field(description="The elements row by row, flat or in lists of lists.")


class WantedOutput(Named):
    """An output to be sent."""


class InferRequest(BaseModel):
    """A request."""

    model_config = ConfigDict(strict=True)

    id: str | None = Field(None, description="Comes back in the reply.")
    parameters: Parameters | None = Field(None, description="`signature_name`: another one than serving_default.")
    inputs: Annotated[list[InputTensor], FailFast(), Field(max_length=_MAX_TENSORS)]
    outputs: Annotated[list[WantedOutput], FailFast(), Field(max_length=_MAX_TENSORS)] = Field(
        default_factory=list, description="All, if none is named."
    )

    @property
    def signature(self) -> str:
        """The signature's name; empty for the default."""
        name: str = (self.parameters or {}).get(SIGNATURE, "")
        return name

    def split(self, inputs: Mapping[str, TensorSpec], outputs: Collection[str]) -> dict[str, Any]:
        """Return each input: the tensor itself, or a list of encoded images.

        Raises:
            InvalidArgumentError: if inputs or outputs are not the signature's.
        """
        sent = {tensor.name: tensor for tensor in self.inputs}
        if len(sent) < len(self.inputs) or sent.keys() != inputs.keys():
            received = ", ".join(echo(tensor.name) for tensor in self.inputs[:8]) or "none"
            raise InvalidArgumentError(f"inputs: expected {', '.join(inputs)}, each once. Received: {received}")
        for item in self.outputs:
            if item.name not in outputs:
                raise InvalidArgumentError(f"outputs: expected {', '.join(outputs)}. Received: {echo(item.name)}")
        return {name: _check_tensor(sent[name], spec) for name, spec in inputs.items()}

    def build(self, value: Any, spec: TensorSpec) -> NDArray[Any]:
        """Return the array of one input.

        Raises:
            InvalidArgumentError: if its data are not of its type and shape.
        """
        if not isinstance(value, InputTensor):
            return build_array(value, spec)
        array = build_array(value.data, TensorSpec(spec.data_type, None))
        if array.shape not in (tuple(value.shape), (math.prod(value.shape),)):
            raise InvalidArgumentError(
                f"input {echo(value.name)}: expected data of shape {show_shape(value.shape)}, in lists of lists or "
                f"flat. Received: {show_shape(array.shape)}"
            )
        return array.reshape(value.shape)

    def dump(self, name: str, version: int, outputs: Mapping[str, NDArray[Any]]) -> str:
        """Return the reply; without an id of the client's it has the request's.

        Raises:
            InvalidArgumentError: if an output that was asked for cannot be said in JSON.
            BrokenContractError: if it is not there.
        """
        wanted = dict.fromkeys(item.name for item in self.outputs) or sorted(outputs)
        return dump_reply(
            {
                "model_name": name,
                "model_version": str(version),
                "id": current_request_id() if self.id is None else self.id,
                "outputs": [_describe_output(alias, outputs) for alias in wanted],
            }
        )


def parse_infer(body: bytes) -> InferRequest:
    """Parse a body.

    Raises:
        InvalidArgumentError: if it is not the JSON of a request, or asks for binary data.
    """
    try:
        request = InferRequest.model_validate(load_object(body))
    except ValidationError as err:
        error = err.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise InvalidArgumentError(f"{ascii(where[:64])[1:-1]}: {error['msg']}") from err
    if not isinstance((request.parameters or {}).get(SIGNATURE, ""), str):
        raise InvalidArgumentError(f"parameters.{SIGNATURE}: expected a text. Received: something else")
    named: list[Named] = [*request.inputs, *request.outputs]
    for parameters in (request.parameters, *(item.parameters for item in named)):
        if any(value for key, value in (parameters or {}).items() if key.startswith("binary_data")):
            raise refuse_binary()
    return request


def refuse_binary() -> InvalidArgumentError:
    """Return the answer to those who ask for Triton's extension for binary data."""
    return InvalidArgumentError(_NO_BINARY)


def describe_tensors(specs: Mapping[str, TensorSpec]) -> list[TensorMetadata]:
    """Return the metadata of a signature's inputs or outputs."""
    return [
        TensorMetadata(name=name, datatype=_datatype(spec.type_name), shape=list(spec.shape or ()))
        for name, spec in specs.items()
    ]


def _check_tensor(tensor: InputTensor, spec: TensorSpec) -> Any:
    """Return what an input's array is made of."""
    expected = _datatype(spec.type_name)
    if tensor.datatype == "BYTES" and spec.data_type == types_pb2.DT_UINT8:
        if tensor.shape != [len(tensor.data)] or not all(isinstance(item, str) for item in tensor.data):
            raise InvalidArgumentError(
                f"input {echo(tensor.name)}: expected BYTES as a flat list of base64 texts, as many as its shape says. "
                f"Received: {len(tensor.data)} elements of shape {show_shape(tensor.shape)}"
            )
        if len(tensor.data) > MOST_IMAGES:
            raise TooManyImagesError(f"expected at most {MOST_IMAGES} images in one request. Received: more")
        if tensor.data:
            return [{B64: item} for item in tensor.data]
    elif tensor.datatype != expected:
        raise InvalidArgumentError(
            f"input {echo(tensor.name)}: expected datatype {expected}. Received: {echo(tensor.datatype)}"
        )
    if 0 in tensor.shape:
        raise InvalidArgumentError(f"input {echo(tensor.name)}: expected at least one element. Received: none")
    check_shape(tensor.shape, spec)
    return tensor


def _describe_output(name: str, outputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    if name not in outputs:
        raise BrokenContractError(f"expected the output {name!r} from the model server. Received: no such output")
    array = outputs[name]
    flat = array.reshape(-1)
    return {
        "name": name,
        "datatype": "BYTES" if array.dtype.kind == "O" else array.dtype.name.upper().replace("FLOAT", "FP"),
        "shape": list(array.shape),
        "data": _read_texts(name, flat) if array.dtype.kind == "O" else to_json(name, flat),
    }


def _read_texts(name: str, values: NDArray[Any]) -> list[str]:
    try:
        return [item.decode() for item in values.tolist()]
    except UnicodeDecodeError as err:
        raise InvalidArgumentError(f"the output {name!r} is not text, so JSON cannot hold it; ask for others") from err


def _datatype(type_name: str) -> str:
    return _DATATYPES.get(type_name, type_name.upper())
