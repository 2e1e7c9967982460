"""numpy arrays to TensorProto and back, and TensorFlow Serving's messages, without TensorFlow."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.errors import TensorError, TensorSizeError
from contract.stubs import import_stubs
from contract.varint import encode_varint, read_varint

_STUBS = import_stubs()
get_model_metadata_pb2: Final[Any] = _STUBS["get_model_metadata_pb2"]
get_model_status_pb2: Final[Any] = _STUBS["get_model_status_pb2"]
meta_graph_pb2: Final[Any] = _STUBS["meta_graph_pb2"]
model_management_pb2: Final[Any] = _STUBS["model_management_pb2"]
model_pb2: Final[Any] = _STUBS["model_pb2"]
model_server_config_pb2: Final[Any] = _STUBS["model_server_config_pb2"]
model_service_pb2_grpc: Final[Any] = _STUBS["model_service_pb2_grpc"]
predict_pb2: Final[Any] = _STUBS["predict_pb2"]
prediction_log_pb2: Final[Any] = _STUBS["prediction_log_pb2"]
prediction_service_pb2_grpc: Final[Any] = _STUBS["prediction_service_pb2_grpc"]
saved_model_pb2: Final[Any] = _STUBS["saved_model_pb2"]
tensor_pb2: Final[Any] = _STUBS["tensor_pb2"]
tensor_shape_pb2: Final[Any] = _STUBS["tensor_shape_pb2"]
types_pb2: Final[Any] = _STUBS["types_pb2"]

PRECISION_KEY: Final = "fovea-precision"  # in the trailing metadata of Predict's replies
MAX_MESSAGE_BYTES: Final = 256 << 20  # between gateway and model server; gRPC's 4 MiB is 27 images of 224 x 224
FLOAT32: Final = "float32"  # of a model server that does not say, as TensorFlow Serving

# DataType -> (numpy dtype, the TensorProto field that holds its values when tensor_content does not)
_NUMERIC: Final[dict[int, tuple[np.dtype[Any], str]]] = {
    types_pb2.DT_FLOAT: (np.dtype(np.float32), "float_val"),
    types_pb2.DT_DOUBLE: (np.dtype(np.float64), "double_val"),
    types_pb2.DT_HALF: (np.dtype(np.float16), "half_val"),
    types_pb2.DT_INT8: (np.dtype(np.int8), "int_val"),
    types_pb2.DT_INT16: (np.dtype(np.int16), "int_val"),
    types_pb2.DT_INT32: (np.dtype(np.int32), "int_val"),
    types_pb2.DT_INT64: (np.dtype(np.int64), "int64_val"),
    types_pb2.DT_UINT8: (np.dtype(np.uint8), "int_val"),
    types_pb2.DT_UINT16: (np.dtype(np.uint16), "int_val"),
    types_pb2.DT_UINT32: (np.dtype(np.uint32), "uint32_val"),
    types_pb2.DT_UINT64: (np.dtype(np.uint64), "uint64_val"),
    types_pb2.DT_BOOL: (np.dtype(np.bool_), "bool_val"),
}
_BITS: Final = frozenset({types_pb2.DT_BFLOAT16, types_pb2.DT_HALF})  # `half_val` has their bit patterns
# Packed, these have the same bytes on the wire as in an array.
_PACKED_AS_STORED: Final = frozenset({types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE, types_pb2.DT_BOOL})
_DATA_TYPES: Final[dict[np.dtype[Any], int]] = {dtype: number for number, (dtype, _) in _NUMERIC.items()}
# A list shorter than the shape repeats its last value, so a few bytes can declare any shape. Others are as large as
# their message.
MAX_REPEATED_BYTES: Final = 256 << 20
_POINTER_BYTES: Final = 8


def encode_tensor(array: NDArray[Any]) -> Any:
    """Returns a TensorProto whose numbers are in `tensor_content`: little-endian, row-major.

    Args:
        array: any shape; an array of bytes or str goes into `string_val`.

    Raises:
        TensorError: if the dtype has no TensorFlow counterpart here.
    """
    tensor = _describe_tensor(array.dtype, array.shape)
    if tensor.dtype == types_pb2.DT_STRING:
        _extend_strings(tensor, array)
    else:
        tensor.tensor_content = array.tobytes()
    return tensor


def encode_typed_tensor(array: NDArray[Any]) -> Any:
    """Returns a TensorProto whose values are in the field of their type, such as `float_val`, each of them once.

    Args:
        array: any shape; a number type, bool, bytes or str.

    Raises:
        TensorError: if the dtype has no TensorFlow counterpart here.
    """
    tensor = _describe_tensor(array.dtype, array.shape)
    if tensor.dtype == types_pb2.DT_STRING:
        _extend_strings(tensor, array)
        return tensor
    if tensor.dtype in _BITS:
        tensor.half_val.extend(array.view(np.uint16).reshape(-1).tolist())
        return tensor
    _, field = _NUMERIC[tensor.dtype]
    if tensor.dtype in _PACKED_AS_STORED:  # the field's bytes are the array's: no Python object for each number
        tensor.MergeFromString(_field(tensor_pb2.TensorProto, field, array.nbytes) + array.tobytes())
        return tensor
    getattr(tensor, field).extend(array.reshape(-1).tolist())
    return tensor


def _describe_tensor(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """Returns a TensorProto of a type and shape, without values."""
    number = types_pb2.DT_STRING if dtype.kind in "OSU" else _DATA_TYPES.get(dtype)
    if dtype.name == "bfloat16":  # no dtype of numpy's, but TensorFlow's arrays have it
        number = types_pb2.DT_BFLOAT16
    if number is None:
        raise TensorError(f"expected a number type, bool, bytes or str. Received: dtype {dtype}")
    tensor = tensor_pb2.TensorProto(dtype=number, tensor_shape=tensor_shape_pb2.TensorShapeProto())
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def _extend_strings(tensor: Any, array: NDArray[Any]) -> None:
    values = array.reshape(-1).tolist()
    tensor.string_val.extend(item.encode() if isinstance(item, str) else bytes(item) for item in values)


def encode_predict_request(
    name: str, signature: str, *, version: int | None, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> bytes:
    """Return a serialised PredictRequest; its numbers are copied once, where protobuf's classes copy them four times.

    Args:
        name: the model.
        signature: which of its signatures.
        version: its number, None for whichever is newest.
        inputs: arrays of a number type or bool, by the names in the signature.
        outputs: which outputs to send back.

    Raises:
        TensorError: if a dtype has no TensorFlow counterpart here.
    """
    parts: list[Any] = [_request_head(name, signature, version, tuple(outputs))]
    for alias, array in inputs.items():
        parts += (_input_head(alias, array.dtype, array.shape), np.ascontiguousarray(array))
    return b"".join(parts)


def encode_string_request(
    name: str, signature: str, *, version: int | None, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> bytes:
    """Return a serialised PredictRequest whose inputs may be strings too; otherwise as `encode_predict_request`."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(encode_tensor(array))
    encoded: bytes = request.SerializeToString()
    return encoded


def decode_tensor(proto: Any) -> NDArray[Any]:
    """Returns the array of a TensorProto, whether its values are in `tensor_content` or in a typed field.

    bfloat16 comes back as float32 (exact), strings as an object array of bytes. A typed field shorter than the shape
    repeats its last value, an empty one means zeros: TensorFlow's own rule (tensor.cc, FromProtoField).

    Raises:
        TensorSizeError: if repeated values would take more than MAX_REPEATED_BYTES.
        TensorError: if the type is not supported, or the values do not fit the shape.
    """
    shape = tuple(int(dim.size) for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError(f"expected a fully known shape. Received: {shape}")
    try:
        return _decode_values(proto, math.prod(shape)).reshape(shape)
    except ValueError as err:  # more axes than numpy has, or an empty array with sizes that it cannot count
        raise TensorError(f"expected a shape that numpy can hold. Received: {len(shape)} axes: {err}") from err


def _decode_values(proto: Any, count: int) -> NDArray[Any]:
    if proto.dtype == types_pb2.DT_STRING:
        return _decode_strings(proto, count)
    if proto.dtype in _BITS:
        return _decode_half(proto, count)
    if proto.dtype not in _NUMERIC:
        raise TensorError(f"type {data_type_name(proto.dtype)} is not supported")
    dtype, field = _NUMERIC[proto.dtype]
    try:
        return _decode_numbers(proto, dtype, field, count)
    except OverflowError as err:
        raise TensorError(f"a value is out of range for type {dtype}") from err


def read_shape(info: Any) -> tuple[int, ...] | None:
    """Returns the sizes of a TensorInfo, -1 where any will do; None if its rank is unknown.

    A TensorInfo without `tensor_shape` has an unknown rank too; a scalar has one without dimensions.
    """
    if not info.HasField("tensor_shape") or info.tensor_shape.unknown_rank:
        return None
    return tuple(int(dim.size) for dim in info.tensor_shape.dim)


def data_type_name(number: int) -> str:
    """Return TensorFlow's short name of a DataType, such as "float" or "string", as its error messages use."""
    try:
        name: str = types_pb2.DataType.Name(number)
    except ValueError:
        return f"unknown dtype enum ({number})"
    return name.removeprefix("DT_").lower()


def _decode_numbers(proto: Any, dtype: np.dtype[Any], field: str, count: int) -> NDArray[Any]:
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise TensorError(
                f"expected {count * dtype.itemsize} bytes of tensor_content. Received: {len(proto.tensor_content)}"
            )
        return np.frombuffer(proto.tensor_content, dtype=dtype)
    values = getattr(proto, field)
    if len(values) == count and proto.dtype in _PACKED_AS_STORED:
        packed = tensor_pb2.TensorProto()
        getattr(packed, field).MergeFrom(values)
        return np.frombuffer(packed.SerializeToString()[-count * dtype.itemsize :] if count else b"", dtype=dtype)
    if len(values) == count:
        return np.fromiter(values, dtype=dtype, count=count)
    _check_repeated(len(values), count, dtype.itemsize)
    if not values:
        return np.zeros(count, dtype=dtype)
    array = np.full(count, values[-1], dtype=dtype)
    array[: len(values)] = values
    return array


def _decode_half(proto: Any, count: int) -> NDArray[Any]:
    """Decode the two 16-bit float types, which share the field `half_val` and hold bit patterns there."""
    try:
        bits = _decode_numbers(proto, np.dtype(np.uint16), "half_val", count)
    except OverflowError as err:
        raise TensorError("a value of half_val is over 16 bits") from err
    if proto.dtype == types_pb2.DT_HALF:
        return bits.view(np.float16)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _decode_strings(proto: Any, count: int) -> NDArray[Any]:
    values = _split_strings(proto.tensor_content, count) if proto.tensor_content else list(proto.string_val)
    if len(values) != count:
        _check_repeated(len(values), count, _POINTER_BYTES)
        values += [values[-1] if values else b""] * (count - len(values))
    strings = np.empty(count, dtype=object)
    strings[:] = values
    return strings


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Returns the strings of a `tensor_content`: the length of each as a varint, then all of them joined."""
    if count > len(content):
        raise TensorError(f"expected {count} strings in tensor_content. Received: {len(content)} bytes")
    lengths, position = [], 0
    for _ in range(count):
        try:
            length, position = read_varint(content, position)
        except ValueError as err:
            raise TensorError("tensor_content ends before the length of a string") from err
        lengths.append(length)
    if sum(lengths) != len(content) - position:
        raise TensorError(f"expected {sum(lengths)} bytes of strings. Received: {len(content) - position}")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def _check_repeated(received: int, count: int, item_bytes: int) -> None:
    """Checks a list of values that is not as long as its shape says."""
    if received > count:
        raise TensorError(f"expected at most {count} values. Received: {received}")
    if count * item_bytes > MAX_REPEATED_BYTES:
        raise TensorSizeError(
            f"{received} values repeated to the declared shape are {count * item_bytes:,} bytes; "
            f"the limit is {MAX_REPEATED_BYTES:,}; send every value"
        )


@functools.lru_cache(maxsize=256)
def _request_head(name: str, signature: str, version: int | None, outputs: tuple[str, ...]) -> bytes:
    """Return a PredictRequest without its inputs; serialised fields of a message may follow each other in any order."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        spec.version.value = version
    head: bytes = predict_pb2.PredictRequest(model_spec=spec, output_filter=outputs).SerializeToString()
    return head


@functools.lru_cache(maxsize=256)
def _input_head(alias: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return an entry of PredictRequest.inputs up to where the tensor's contents begin."""
    content_bytes = math.prod(shape) * dtype.itemsize
    tensor = _describe_tensor(dtype, shape)
    tensor_head = tensor.SerializeToString() + _field(tensor_pb2.TensorProto, "tensor_content", content_bytes)
    entry = predict_pb2.PredictRequest.InputsEntry
    key = _field(entry, "key", len(alias.encode())) + alias.encode()
    head: bytes = key + _field(entry, "value", len(tensor_head) + content_bytes) + tensor_head
    return _field(predict_pb2.PredictRequest, "inputs", len(head) + content_bytes) + head


def _field(message: Any, name: str, num_bytes: int) -> bytes:
    """Return what precedes a field of so many bytes in a serialised message: its number, wire type 2, the length."""
    return encode_varint(message.DESCRIPTOR.fields_by_name[name].number << 3 | 2) + encode_varint(num_bytes)
