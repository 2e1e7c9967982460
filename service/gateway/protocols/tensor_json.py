"""JSON values to arrays, by the rules and in the words of TensorFlow Serving's REST API.

The error texts are TensorFlow Serving's (util/json_tensor.cc), since its clients may match on them; values in them are
cut short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from contract.tensors import data_type_name, types_pb2
from service.gateway.bodies.json_document import B64, decode_base64, echo
from service.gateway.context.errors import InvalidArgumentError

_DTYPES: Final[dict[int, np.dtype[Any]]] = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_INT16: np.dtype(np.int16),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_UINT32: np.dtype(np.uint32),
    types_pb2.DT_UINT64: np.dtype(np.uint64),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_STRING: np.dtype(object),
}
# Python types of the JSON values that make an array of these kinds (numpy's letters).
_KINDS: Final[dict[str, tuple[type, ...]]] = {"b": (bool,), "iu": (int,), "iuf": (int, float)}


def _check_elements(value: Any) -> Any:
    if not isinstance(value, list | np.ndarray):
        raise PydanticCustomError("list_type", "Input should be a valid list")
    return value


# A list of JSON values, or the array that `json_reader` makes of a long list of numbers.
Elements = Annotated[
    Any, PlainValidator(_check_elements), WithJsonSchema({"type": "array", "items": {}, "title": "Data"})
]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        data_type: TensorFlow's DataType number.
        shape: sizes, -1 where any will do; None if the rank is open.
    """

    data_type: int
    shape: tuple[int, ...] | None

    @property
    def type_name(self) -> str:
        """TensorFlow's name of the type, such as "float"."""
        return data_type_name(self.data_type)


def is_binary(value: Any) -> bool:
    """Return True if a JSON value stands for bytes: an object with one text, named b64."""
    return isinstance(value, dict) and value.keys() == {B64} and isinstance(value[B64], str)


def decode_binary(value: Mapping[str, str]) -> bytes:
    """Return the bytes that a JSON value stands for.

    Raises:
        InvalidArgumentError: if it is not base64.
    """
    try:
        return decode_base64(value[B64])
    except ValueError as err:
        raise InvalidArgumentError("Unable to base64 decode") from err


def build_array(value: Any, spec: TensorSpec) -> NDArray[Any]:
    """Return the array of one input.

    Args:
        value: nested lists of JSON values; where images were decoded, their arrays stand in the lists.
        spec: the input's type and shape.

    Raises:
        InvalidArgumentError: if the values do not make an array of that type and shape.
    """
    dtype = _DTYPES.get(spec.data_type)
    if dtype is None:
        raise InvalidArgumentError(f"Conversion of JSON Value: {echo(value)} to type: {spec.type_name}")
    array = _build_strings(value) if dtype.kind == "O" else _build_numbers(value, spec, dtype)
    check_shape(array.shape, spec)
    return array


def check_shape(shape: Sequence[int], spec: TensorSpec) -> None:
    """Refuse a shape that an input does not take.

    Raises:
        InvalidArgumentError: as TensorFlow Serving says it.
    """
    if spec.shape is not None and not _fits(shape, spec.shape):
        raise InvalidArgumentError(f"Expecting shape {show_shape(spec.shape)} but got: {show_shape(shape)}")


def _build_numbers(value: Any, spec: TensorSpec, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, RecursionError) as err:  # lists of different lengths, or nested beyond numpy's 64 axes
        raise InvalidArgumentError(
            f"JSON Value: {echo(value)} Encountered list at unexpected size or level; expected type: {spec.type_name}"
        ) from err
    allowed = "b" if dtype.kind == "b" else "iu" if dtype.kind in "iu" else "iuf"
    if array.size == 0:
        return array.astype(dtype)
    if array.dtype.kind not in allowed:
        culprit = _find_culprit(value, allowed)
        raise InvalidArgumentError(
            f"JSON Value: {echo(culprit)} Type: {_type_of(culprit)} is not of expected type: {spec.type_name}"
        )
    _check_range(array, spec, dtype)
    return array.astype(dtype, copy=False)


def _check_range(array: NDArray[Any], spec: TensorSpec, dtype: np.dtype[Any]) -> None:
    """Refuse numbers that the type cannot hold; TensorFlow Serving wraps small integers silently."""
    lowest, highest = array.min(), array.max()
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if lowest < limits.min or highest > limits.max:
            bad = lowest if lowest < limits.min else highest
            raise InvalidArgumentError(f"JSON Value: {bad} Type: Number is not of expected type: {spec.type_name}")
    elif dtype.kind == "f":
        info = np.finfo(dtype)
        limit = 2 ** (info.nmant + 1) - 1 if array.dtype.kind in "iu" else float(info.max)
        finite = array if array.dtype.kind in "iu" else array[np.isfinite(array)]
        if finite.size and (int(finite.min()) < -limit or int(finite.max()) > limit):
            bad = finite.min() if int(finite.min()) < -limit else finite.max()
            raise InvalidArgumentError(
                f"Cannot convert JSON value: {bad} to {spec.type_name} without loss of precision."
            )


def _build_strings(value: Any) -> NDArray[Any]:
    shape: list[int] = []
    level = value
    while isinstance(level, list | np.ndarray):
        shape.append(len(level))
        level = level[0] if len(level) else None
    flat: list[bytes] = []
    _collect_strings(value, shape, 0, flat)
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def _collect_strings(value: Any, shape: Sequence[int], level: int, into: list[bytes]) -> None:
    if isinstance(value, list | np.ndarray):
        if level >= len(shape) or len(value) != shape[level]:
            raise InvalidArgumentError(f"Encountered list at unexpected size: {len(value)} at level: {level}")
        for item in value:
            _collect_strings(item, shape, level + 1, into)
        return
    if level != len(shape):
        raise InvalidArgumentError(f"JSON Value: {echo(value)} found at incorrect level: {level + 1}")
    if is_binary(value):
        into.append(decode_binary(value))
    elif isinstance(value, str):
        into.append(value.encode("utf-8", "surrogatepass"))
    else:
        raise InvalidArgumentError(f"JSON Value: {echo(value)} Type: {_type_of(value)} is not of expected type: string")


def _find_culprit(value: Any, allowed: str) -> Any:
    """Return a value of the wrong type, for the error; the whole if it cannot be told."""
    kinds = _KINDS[allowed]
    level = [value]
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, list):
                inner += item
            elif isinstance(item, np.ndarray):
                if item.dtype.kind not in allowed:
                    return item.reshape(-1)[0].item()
            elif not _is_of(item, kinds):
                return item
        level = inner
    return value


def _is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) and not (isinstance(value, int) and value.bit_length() > 64)


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    names = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}
    return names.get(type(value), "Array")


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(b in (-1, a) for a, b in zip(shape, wanted, strict=True))


def show_shape(shape: Sequence[int]) -> str:
    """Return a shape as error texts have it."""
    return f"[{','.join(map(str, shape))}]"
