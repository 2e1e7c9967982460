"""The Open Inference Protocol's bodies (KServe's v2): requests, replies, metadata of models.

Tensors are JSON, or binary data after it (`tensor_binary.py`). Beyond the protocol, `BYTES` where a model of Fovea
takes pixels are image files, in JSON as base64 (`tensor_prediction.py`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final

from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, PrivateAttr, ValidationError

from contract.tensors import types_pb2
from service.gateway.bodies.json_document import B64, Load, echo, load_object
from service.gateway.context.errors import BrokenContractError, InvalidArgumentError, TooManyImagesError
from service.gateway.context.settings import MOST_IMAGES
from service.gateway.http.json_text import dump_arrays, to_json
from service.gateway.protocols.classification import rank_classes
from service.gateway.protocols.tensor_binary import HEADER, cut_binary, read_elements, read_tensor, write_tensor
from service.gateway.protocols.tensor_json import Elements, TensorSpec, build_array, check_shape, show_shape
from service.gateway.protocols.tensor_prediction import TensorReply

EXTENSIONS: Final = ("binary_tensor_data", "classification")
BINARY_TYPE: Final = "application/octet-stream"
SIGNATURE: Final = "signature_name"  # a parameter of requests
BINARY_SIZE: Final = "binary_data_size"  # of inputs, and of outputs in replies
BINARY_DATA: Final = "binary_data"  # of outputs
BINARY_OUTPUTS: Final = "binary_data_output"  # of requests, for all outputs
CLASSIFICATION: Final = "classification"  # of outputs
_PROBABILITIES: Final = "probabilities"  # the output whose classes have names
_EXPECTED: Final[dict[str, tuple[type, str]]] = {
    SIGNATURE: (str, "a text"),
    BINARY_SIZE: (int, "a number from 0 on"),
    BINARY_DATA: (bool, "true or false"),
    BINARY_OUTPUTS: (bool, "true or false"),
    CLASSIFICATION: (int, "a number from 0 on"),
}
# Parameters of extensions that are not served: to ignore one would change what the request means.
_NOT_SERVED: Final = ("sequence_id", "sequence_start", "sequence_end", "shared_memory_")
_MAX_RANK: Final = 32
_MAX_NUMBER: Final = 1 << 63  # parameters of the protocol are int64
_MAX_TENSORS: Final = 256
# TensorFlow's names of types, where the protocol's are others than the same in capitals.
_DATATYPES: Final = {"float": "FP32", "double": "FP64", "half": "FP16", "bfloat16": "BF16", "string": "BYTES"}
_SENT_AS: Final = {"BF16": "FP32"}  # NumPy has no bfloat16; float32 has every value of it


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
    """Name, type and shape of a model's input or output."""

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
    """Fields that inputs and outputs of a request share."""

    model_config = ConfigDict(strict=True)

    name: str
    parameters: Parameters | None = None


class InputTensor(Named):
    """An input."""

    datatype: str
    shape: Annotated[list[Size], FailFast(), Field(max_length=_MAX_RANK)]
    data: Elements | None = Field(
        None, description="The elements row by row, flat or in lists of lists; none with `binary_data_size`."
    )


class WantedOutput(Named):
    """An output to be sent."""


class InferRequest(BaseModel):
    """A request."""

    model_config = ConfigDict(strict=True)

    id: str | None = Field(None, description="Comes back in the reply.")
    parameters: Parameters | None = Field(
        None,
        description="`signature_name`: another one than serving_default. `binary_data_output`: send outputs as binary.",
    )
    inputs: Annotated[list[InputTensor], FailFast(), Field(max_length=_MAX_TENSORS)]
    outputs: Annotated[list[WantedOutput], FailFast(), Field(max_length=_MAX_TENSORS)] = Field(
        default_factory=list, description="All, if none is named."
    )
    _binary: dict[str, memoryview] = PrivateAttr(default_factory=dict)  # of the inputs that have binary data

    @property
    def signature(self) -> str:
        """The signature's name; empty for the default."""
        name: str = _parameter(self, SIGNATURE, "")
        return name

    @property
    def wants_labels(self) -> bool:
        """True if an output is asked for as classes."""
        return any(_parameter(item, CLASSIFICATION, 0) for item in self.outputs)

    def split(self, inputs: Mapping[str, TensorSpec], outputs: Collection[str]) -> dict[str, Any]:
        """Return each input: the tensor itself, or a list of encoded images.

        Raises:
            InvalidArgumentError: if inputs or outputs are not the signature's.
        """
        sent = {tensor.name: tensor for tensor in self.inputs}
        if len(sent) < len(self.inputs) or sent.keys() != inputs.keys():
            received = ", ".join(echo(tensor.name) for tensor in self.inputs[:8]) or "none"
            raise InvalidArgumentError(f"inputs: expected {', '.join(inputs)}, each once. Received: {received}")
        wanted = [item.name for item in self.outputs]
        for i, name in enumerate(wanted):
            if name not in outputs:
                raise InvalidArgumentError(f"outputs: expected {', '.join(outputs)}. Received: {echo(name)}")
            if name in wanted[:i]:
                raise InvalidArgumentError(f"outputs: expected each once. Received: {echo(name)} twice")
        return {name: _check_tensor(sent[name], spec, self._binary.get(name)) for name, spec in inputs.items()}

    def build(self, value: Any, spec: TensorSpec) -> NDArray[Any]:
        """Return the array of one input.

        Raises:
            InvalidArgumentError: if its data are not of its type and shape.
        """
        if not isinstance(value, InputTensor):
            return build_array(value, spec)
        binary = self._binary.get(value.name)
        if binary is not None:
            return read_tensor(binary, spec, value.shape, name=value.name)
        array = build_array(value.data, TensorSpec(spec.data_type, None))
        if array.shape not in (tuple(value.shape), (math.prod(value.shape),)):
            raise InvalidArgumentError(
                f"input {echo(value.name)}: expected data of shape {show_shape(value.shape)}, in lists of lists or "
                f"flat. Received: {show_shape(array.shape)}"
            )
        return array.reshape(value.shape)

    def dump(
        self,
        name: str,
        version: int,
        outputs: Mapping[str, NDArray[Any]],
        *,
        labels: Sequence[str],
        request_id: str,
    ) -> TensorReply:
        """Return the reply; without an id of the client's it has the request's.

        Raises:
            InvalidArgumentError: if an output cannot be said in the form that was asked for.
            BrokenContractError: if an output that was asked for is not there.
        """
        described: list[dict[str, Any]] = []
        binary: list[Any] = []
        for item in self.outputs or [WantedOutput(name=alias) for alias in sorted(outputs)]:
            array = self._pick(item, outputs, labels)
            described.append({"name": item.name, "datatype": _datatype_of(array), "shape": list(array.shape)})
            if _parameter(item, BINARY_DATA, _parameter(self, BINARY_OUTPUTS, False)):
                binary.append(write_tensor(array))
                described[-1]["parameters"] = {BINARY_SIZE: len(binary[-1])}
            else:
                described[-1]["data"] = _to_json(item.name, array)
        document = {
            "model_name": name,
            "model_version": str(version),
            "id": request_id if self.id is None else self.id,
            "outputs": described,
        }
        head = dump_arrays(document).encode()
        if not binary:
            return TensorReply(head)
        return TensorReply(b"".join((head, *binary)), BINARY_TYPE, {HEADER: str(len(head))})

    def _pick(self, item: WantedOutput, outputs: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> NDArray[Any]:
        if item.name not in outputs:
            raise BrokenContractError(
                f"expected the output {item.name!r} from the model server. Received: no such output"
            )
        count = _parameter(item, CLASSIFICATION, 0)
        if not count:
            return outputs[item.name]
        return rank_classes(item.name, outputs[item.name], count, labels=labels if item.name == _PROBABILITIES else ())


def parse_infer(body: bytes, load: Load = load_object, *, json_bytes: int | None = None) -> InferRequest:
    """Parse a body.

    Args:
        body: JSON, and the binary data of inputs after it.
        load: parses the JSON; lists of numbers may come as arrays.
        json_bytes: how many bytes are JSON; all by default.

    Raises:
        InvalidArgumentError: if it is not the JSON of a request, or the binary data do not fit it.
    """
    if json_bytes is not None and json_bytes > len(body):
        raise InvalidArgumentError(f"Inference-Header-Content-Length is {json_bytes}; the body has {len(body)} bytes")
    head = body if json_bytes is None else body[:json_bytes]
    try:
        request = InferRequest.model_validate(load(head))
    except ValidationError as err:
        error = err.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise InvalidArgumentError(f"{ascii(where[:64])[1:-1]}: {error['msg']}") from err
    named: list[Named] = [*request.inputs, *request.outputs]
    for where, parameters in (("", request.parameters), *((f"{echo(item.name)}: ", item.parameters) for item in named)):
        for key, value in (parameters or {}).items():
            _check_parameter(where, key, value)
    sizes = [(item.name, _parameter(item, BINARY_SIZE, None)) for item in request.inputs]
    for item, (_, size) in zip(request.inputs, sizes, strict=True):
        if (item.data is None) == (size is None):
            raise InvalidArgumentError(
                f"input {echo(item.name)}: expected either data or the parameter {BINARY_SIZE}. "
                f"Received: {'neither' if size is None else 'both'}"
            )
    binary = memoryview(body)[len(head) :]
    request._binary = cut_binary(binary, [(name, size) for name, size in sizes if size is not None])
    return request


def _check_parameter(where: str, key: str, value: Any) -> None:
    """Refuse a wrong value of a known parameter; parameters of other servers are ignored, as the protocol has it."""
    if key in _EXPECTED:
        kind, words = _EXPECTED[key]
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < _MAX_NUMBER):
            raise InvalidArgumentError(f"{where}parameters.{key}: expected {words}. Received: {echo(value)}")
    if key.startswith(_NOT_SERVED) and value:
        raise InvalidArgumentError(
            f"{where}parameters.{echo(key)[1:-1]}: the extension of this parameter is not served; GET /v2 lists those "
            "that are"
        )


def _parameter(item: Named | InferRequest, key: str, default: Any) -> Any:
    return (item.parameters or {}).get(key, default)


def describe_inputs(specs: Mapping[str, TensorSpec]) -> list[TensorMetadata]:
    """Return the metadata of a signature's inputs."""
    return [_describe(name, _datatype(spec.type_name), spec) for name, spec in specs.items()]


def describe_outputs(specs: Mapping[str, TensorSpec]) -> list[TensorMetadata]:
    """Return the metadata of a signature's outputs, with the datatypes that replies have."""
    datatypes = {name: _datatype(spec.type_name) for name, spec in specs.items()}
    return [_describe(name, _SENT_AS.get(datatypes[name], datatypes[name]), spec) for name, spec in specs.items()]


def _describe(name: str, datatype: str, spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=name, datatype=datatype, shape=list(spec.shape or ()))


def _check_tensor(tensor: InputTensor, spec: TensorSpec, binary: memoryview | None) -> Any:
    """Return what an input's array is made of."""
    expected = _datatype(spec.type_name)
    if tensor.datatype == "BYTES" and spec.data_type == types_pb2.DT_UINT8:
        files = _list_files(tensor, binary)
        if files:
            return files
    elif tensor.datatype != expected:
        raise InvalidArgumentError(
            f"input {echo(tensor.name)}: expected datatype {expected}. Received: {echo(tensor.datatype)}"
        )
    if 0 in tensor.shape:
        raise InvalidArgumentError(f"input {echo(tensor.name)}: expected at least one element. Received: none")
    check_shape(tensor.shape, spec)
    return tensor


def _list_files(tensor: InputTensor, binary: memoryview | None) -> list[Any]:
    """Return the image files of an input: bytes, or objects with base64."""
    if len(tensor.shape) == 1 and tensor.shape[0] > MOST_IMAGES:
        raise TooManyImagesError(f"expected at most {MOST_IMAGES} images in one request. Received: {tensor.shape[0]}")
    if binary is not None:
        if len(tensor.shape) != 1:
            raise InvalidArgumentError(
                f"input {echo(tensor.name)}: expected BYTES of shape [number of image files]. Received: "
                f"{show_shape(tensor.shape)}"
            )
        return list(read_elements(binary, tensor.shape[0], name=tensor.name))
    data = [] if tensor.data is None else tensor.data
    if tensor.shape != [len(data)] or not all(isinstance(item, str) for item in data):
        raise InvalidArgumentError(
            f"input {echo(tensor.name)}: expected BYTES as a flat list of base64 texts, as many as its shape says. "
            f"Received: {len(data)} elements of shape {show_shape(tensor.shape)}"
        )
    return [{B64: item} for item in data]


def _datatype_of(array: NDArray[Any]) -> str:
    return "BYTES" if array.dtype.kind == "O" else array.dtype.name.upper().replace("FLOAT", "FP")


def _to_json(name: str, array: NDArray[Any]) -> Any:
    flat = array.reshape(-1)
    if array.dtype.kind != "O":
        return to_json(name, flat)
    try:
        return [item.decode() for item in flat.tolist()]
    except UnicodeDecodeError as err:
        raise InvalidArgumentError(
            f"the output {name!r} is not text, which JSON cannot hold; ask for it with the parameter {BINARY_DATA}"
        ) from err


def _datatype(type_name: str) -> str:
    return _DATATYPES.get(type_name, type_name.upper())
