"""Binary tensor data of the Open Inference Protocol: bytes that follow the JSON of a request or reply.

Numbers are little-endian, row by row, without padding; an element of BYTES is its length as 4 bytes and its bytes
(Triton's extension `binary_tensor_data`).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.tensors import types_pb2
from service.gateway.bodies.json_document import echo
from service.gateway.context.errors import InvalidArgumentError
from service.gateway.protocols.tensor_json import TensorSpec, show_shape

HEADER: Final = "inference-header-content-length"
_HEADER: Final = HEADER.encode()
_LENGTH: Final = struct.Struct("<I")
_MAX_ELEMENTS: Final = 1 << 20  # of BYTES in one tensor: each becomes an object of its own
_DTYPES: Final[dict[int, np.dtype[Any]]] = {
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_UINT16: np.dtype("<u2"),
    types_pb2.DT_UINT32: np.dtype("<u4"),
    types_pb2.DT_UINT64: np.dtype("<u8"),
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_INT16: np.dtype("<i2"),
    types_pb2.DT_INT32: np.dtype("<i4"),
    types_pb2.DT_INT64: np.dtype("<i8"),
    types_pb2.DT_HALF: np.dtype("<f2"),
    types_pb2.DT_FLOAT: np.dtype("<f4"),
    types_pb2.DT_DOUBLE: np.dtype("<f8"),
}


def read_json_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Returns how many bytes of a body are JSON by its header; None without the header.

    Args:
        headers: the request's, names in lower case.

    Raises:
        InvalidArgumentError: if the header is no positive number, or there are several.
    """
    sent = [value.strip() for name, value in headers if name == _HEADER]
    if not sent:
        return None
    if len(sent) > 1:
        raise InvalidArgumentError(f"Inference-Header-Content-Length: expected one header. Received: {len(sent)}")
    if not re.fullmatch(rb"0*[1-9][0-9]{0,17}", sent[0]):
        raise InvalidArgumentError(
            "Inference-Header-Content-Length: expected the number of bytes of the JSON at the body's beginning, from 1 "
            f"on. Received: {sent[0][:32].decode('latin-1')!a}"
        )
    return int(sent[0])


def cut_binary(data: memoryview, sizes: Sequence[tuple[str, int]]) -> dict[str, memoryview]:
    """Returns each input's part of the binary data, without a copy.

    Args:
        data: everything after the JSON.
        sizes: of the inputs that have binary data, in the order of the JSON: name, bytes.

    Raises:
        InvalidArgumentError: if the sizes do not add up to the data.
    """
    parts: dict[str, memoryview] = {}
    start = 0
    for name, size in sizes:
        if size > len(data) - start:
            raise InvalidArgumentError(
                f"input {echo(name)}: binary_data_size is {size}; {len(data) - start} bytes are left of the "
                f"{len(data)} after the JSON. Inference-Header-Content-Length is the length of the JSON"
            )
        parts[name] = data[start : start + size]
        start += size
    if start != len(data):
        raise InvalidArgumentError(
            f"{len(data)} bytes follow the JSON; expected {start}, the sum of binary_data_size over the inputs"
        )
    return parts


def read_tensor(data: memoryview, spec: TensorSpec, shape: Sequence[int], *, name: str) -> NDArray[Any]:
    """Returns the array of an input; numbers are not copied.

    Args:
        data: the input's binary data.
        spec: the input's type.
        shape: as the request says it.
        name: the input's, for errors.

    Raises:
        InvalidArgumentError: if the data are not of that type and shape.
    """
    if spec.data_type == types_pb2.DT_STRING:
        elements = read_elements(data, math.prod(shape), name=name)
        strings = np.empty(len(elements), dtype=object)
        strings[:] = elements
        return strings.reshape(shape)
    dtype = _DTYPES.get(spec.data_type)
    if dtype is None:
        raise InvalidArgumentError(f"input {echo(name)}: tensors of type {spec.type_name} cannot be sent")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InvalidArgumentError(
            f"input {echo(name)}: shape {show_shape(shape)} of {spec.type_name} is {expected} bytes. "
            f"Received: binary_data_size {len(data)}"
        )
    if dtype.kind == "b" and (np.frombuffer(data, np.uint8) > 1).any():
        raise InvalidArgumentError(f"input {echo(name)}: a byte of BOOL is neither 0 nor 1")
    return np.frombuffer(data, dtype).reshape(shape)


def read_elements(data: memoryview, count: int, *, name: str) -> list[bytes]:
    """Returns the elements of binary BYTES.

    Args:
        data: each element as 4 bytes of length and its bytes.
        count: how many the shape says.
        name: the input's, for errors.

    Raises:
        InvalidArgumentError: if the data are not that many elements.
    """
    if count > _MAX_ELEMENTS:
        raise InvalidArgumentError(
            f"input {echo(name)}: {count} elements of BYTES; the limit of a tensor is {_MAX_ELEMENTS}"
        )
    elements: list[bytes] = []
    start = 0
    while start < len(data) and len(elements) <= count:
        end = start + _LENGTH.size
        if end <= len(data):
            end += _LENGTH.unpack_from(data, start)[0]
        if end > len(data) or end - start < _LENGTH.size:
            raise InvalidArgumentError(
                f"input {echo(name)}: element {len(elements)} of BYTES ends at byte {end}; binary_data_size is "
                f"{len(data)}. Each element is its length, 4 bytes little-endian, and its bytes"
            )
        elements.append(bytes(data[start + _LENGTH.size : end]))
        start = end
    if len(elements) != count or start != len(data):
        raise _wrong_count(name, count, len(elements))
    return elements


def write_tensor(array: NDArray[Any]) -> bytes | NDArray[np.uint8]:
    """Returns an output's binary data: bytes, or an array of them that is no copy."""
    if array.dtype.kind == "O":
        return b"".join(part for item in array.reshape(-1).tolist() for part in (_LENGTH.pack(len(item)), item))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _wrong_count(name: str, count: int, received: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"input {echo(name)}: expected {count} elements of BYTES, as the shape says. Received: "
        f"{received if received < count else 'more'}"
    )
