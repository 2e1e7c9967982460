"""TensorFlow Serving's JSON documents: requests in row and column format, and their replies.

Beyond TensorFlow Serving, `{"b64": ...}` where a model of Fovea takes pixels is an encoded image
(`tensor_prediction.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.gateway.bodies.json_document import Load, echo, load_object
from service.gateway.context.errors import InvalidArgumentError
from service.gateway.http.json_text import dump_arrays, to_json
from service.gateway.protocols.tensor_json import TensorSpec, build_array, is_binary
from service.gateway.protocols.tensor_prediction import TensorReply

INSTANCES: Final = "instances"
INPUTS: Final = "inputs"


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A parsed body.

    Attributes:
        signature: the signature's name.
        by_row: whether it is in row format ("instances").
        value: what stands under "instances" or "inputs".
    """

    signature: str
    by_row: bool
    value: Any

    def split(self, inputs: Mapping[str, TensorSpec], outputs: Collection[str]) -> dict[str, Any]:
        """Return the JSON value of each input; see `split_inputs`. All outputs are sent, whichever there are."""
        return split_inputs(self, list(inputs))

    def build(self, value: Any, spec: TensorSpec) -> NDArray[Any]:
        """Return the array of one input; see `build_array`."""
        return build_array(value, spec)

    @property
    def wants_labels(self) -> bool:
        """Never: the reply has numbers alone."""
        return False

    def dump(
        self,
        name: str,
        version: int,
        outputs: Mapping[str, NDArray[Any]],
        *,
        labels: Sequence[str],
        request_id: str,
    ) -> TensorReply:
        """Return the reply; see `build_reply`. Model and version are in its headers only."""
        return TensorReply(dump_arrays(build_reply(outputs, by_row=self.by_row)).encode())


def parse_request(body: bytes, load: Load = load_object) -> RestRequest:
    """Parse a body.

    Args:
        body: JSON.
        load: parses the JSON; lists of numbers may come as arrays.

    Raises:
        InvalidArgumentError: if it is not JSON, or not of either format.
    """
    document = load(body)
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise InvalidArgumentError(
            f"JSON Value: {echo(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    if INSTANCES in document and INPUTS in document:
        raise InvalidArgumentError(
            f"JSON Value: {echo(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if INPUTS in document:
        return RestRequest(signature, False, document[INPUTS])
    if INSTANCES not in document:
        raise InvalidArgumentError("Missing 'inputs' or 'instances' key")
    instances = document[INSTANCES]
    if not isinstance(instances, list | np.ndarray):
        raise InvalidArgumentError(f"JSON Value: {echo(document)} Excepting 'instances' to be an list/array")
    if not len(instances):
        raise InvalidArgumentError(f"JSON Value: {echo(document)} No values in 'instances' array")
    return RestRequest(signature, True, instances)


def split_inputs(request: RestRequest, names: Sequence[str]) -> dict[str, Any]:
    """Return the JSON value of each input of a signature; in row format the list of every instance's.

    Args:
        request: the parsed body.
        names: the signature's inputs.

    Raises:
        InvalidArgumentError: if an input is missing or unknown.
    """
    return _split_rows(request.value, names) if request.by_row else _split_columns(request.value, names)


def _split_rows(instances: list[Any] | NDArray[Any], names: Sequence[str]) -> dict[str, Any]:
    named = _is_object(instances[0])
    if isinstance(instances, np.ndarray) and len(names) == 1:
        return {names[0]: instances}
    if not named and len(names) > 1:
        raise InvalidArgumentError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for i, item in enumerate(instances):
        if named and not _is_object(item):
            raise InvalidArgumentError(f"Expecting object but got list at item {i} of input list")
        if not named and _is_object(item):
            raise InvalidArgumentError(f"Expecting value/list but got object at item {i} of input list")
        if named and item.keys() != set(names):
            raise InvalidArgumentError(
                f"Failed to process element: {i} of 'instances' list. JSON object: {echo(item)} must only have keys: "
                f"{','.join(sorted(names))}"
            )
    return {name: [item[name] for item in instances] for name in names} if named else {names[0]: instances}


def _split_columns(value: Any, names: Sequence[str]) -> dict[str, Any]:
    if not _is_object(value):
        if len(names) > 1:
            raise InvalidArgumentError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {names[0]: value}
    for name in names:
        if name not in value:
            raise InvalidArgumentError(f"Missing named input: {name} in 'inputs' object.")
    return {name: value[name] for name in names}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_binary(value)


def build_reply(outputs: Mapping[str, NDArray[Any]], *, by_row: bool) -> dict[str, Any]:
    """Return the reply's JSON document.

    Args:
        outputs: by name; in row format each with the batch axis first.
        by_row: whether the request was in row format.

    Raises:
        InvalidArgumentError: if in row format the outputs have no batch axis, or different ones.
    """
    values = {name: to_json(name, array) for name, array in sorted(outputs.items())}
    if not by_row:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if None in sizes or len(sizes) != 1:
        raise InvalidArgumentError(
            'the outputs have no common batch size, as row format needs; send "inputs" instead of "instances"'
        )
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}
