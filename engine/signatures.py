"""Checks inputs and outputs against a SignatureDef, with TensorFlow Serving's error messages.

The texts and their order are its own (predict_util.cc and TensorFlow's cc/saved_model/util.cc), because clients match
on them. Two differ by intent: TensorFlow Serving leaves shapes to the graph, which then fails somewhere inside or, in a
network that pools globally, answers for an image of the wrong size; here a wrong shape is refused by name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import TensorError
from contract.tensors import data_type_name, encode_tensor, read_shape
from engine.errors import InputError, SignatureError
from engine.saved_model import SignatureDef, Signatures


def find_signature(signatures: Signatures, name: str) -> SignatureDef:
    """Return a signature by name.

    Raises:
        SignatureError: if the model does not have it.
    """
    if name not in signatures:
        raise SignatureError(f'Serving signature key "{name}" not found.')
    return signatures[name]


def check_input_names(signature: SignatureDef, names: Iterable[str]) -> None:
    """Check that exactly the signature's inputs are given.

    Raises:
        InputError: naming missing and extra inputs.
    """
    received, expected = set(names), set(signature.inputs)
    if len(received) != len(expected):
        raise InputError(
            f"input size does not match signature: {len(received)}!={len(expected)} len({_joined(received)}) != "
            f"len({_joined(expected)}). Sent extra: {_joined(received - expected)}. "
            f"Missing but required: {_joined(expected - received)}."
        )
    for alias in sorted(expected - received):
        raise InputError(
            f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and no "
            f"default value provided. Inputs expected to be in the request {_joined(received)}, or default input "
            "alias set: "
        )


def resolve_outputs(signature: SignatureDef, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs to compute: those wanted, or all when none is named.

    Raises:
        InputError: if one is unknown or named twice.
    """
    for position, alias in enumerate(wanted):
        if alias not in signature.outputs:
            raise InputError(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_joined(signature.outputs)}."
            )
        if alias in wanted[:position]:
            raise InputError(f"duplicate output tensor alias: {alias}")
    return tuple(wanted) or tuple(sorted(signature.outputs))


def check_inputs(signature: SignatureDef, inputs: Mapping[str, NDArray[Any]], *, any_rank: bool = False) -> None:
    """Checks dtypes and shapes, and that all inputs hold the same number of rows.

    Args:
        signature: with exactly these inputs.
        inputs: arrays by input name.
        any_rank: whether the runtime itself decides on inputs of another rank than the signature's.

    Raises:
        InputError: naming the first input that does not fit, with the expected and the received type.
    """
    # TensorFlow's runtime numbers the arguments in the order of their tensors' names.
    feeds = sorted(inputs, key=lambda alias: str(signature.inputs[alias].name))
    for position, alias in enumerate(feeds):
        expected, received = signature.inputs[alias].dtype, data_type_of(inputs[alias].dtype)
        if received != expected:
            raise InputError(
                f"Expects arg[{position}] to be {data_type_name(expected)} but {data_type_name(received)} is provided"
            )
    batches = {}
    for alias in feeds:
        sizes = read_shape(signature.inputs[alias])
        if sizes is None or (any_rank and len(sizes) != inputs[alias].ndim):
            continue
        _check_shape(alias, sizes, inputs[alias].shape)
        if sizes and sizes[0] == -1:
            batches[alias] = inputs[alias].shape[0]
    if len(set(batches.values())) > 1:
        received_text = ", ".join(f"{alias} {rows}" for alias, rows in sorted(batches.items()))
        raise InputError(f"the inputs' first dimensions: expected equal sizes. Received: {received_text}")
    if "class_index" in inputs and "probabilities" in signature.outputs:
        _check_classes(inputs["class_index"], read_shape(signature.outputs["probabilities"]))


def _check_classes(indices: NDArray[Any], shape: Sequence[int] | None) -> None:
    """Check the classes to explain, -1 for the predicted one: OpenVINO answers for any number, TensorFlow fails."""
    num_classes = shape[-1] if shape else -1
    if num_classes > 0 and indices.size and not (indices.min() >= -1 and indices.max() < num_classes):
        raise InputError(
            f"class_index: expected -1 to {num_classes - 1}. Received: {int(indices.min())} to {int(indices.max())}"
        )


def _check_shape(alias: str, expected: Sequence[int], received: Sequence[int]) -> None:
    if len(received) != len(expected) or any(
        want not in (-1, size) for want, size in zip(expected, received, strict=True)
    ):
        raise InputError(f"{alias}: expected shape {list(expected)}. Received: {list(received)}")


def has_ranks(signature: SignatureDef, inputs: Mapping[str, NDArray[Any]]) -> bool:
    """Returns whether every input has the rank that the signature says, if it says one."""
    shapes = {alias: read_shape(signature.inputs[alias]) for alias in inputs}
    return all(shape is None or len(shape) == inputs[alias].ndim for alias, shape in shapes.items())


def is_batched(signature: SignatureDef) -> bool:
    """Return whether every input and output of a signature has a free first axis, and so can be batched along it."""
    infos = [*signature.inputs.values(), *signature.outputs.values()]
    return bool(signature.inputs) and all((read_shape(info) or (0,))[0] == -1 for info in infos)


@functools.lru_cache(maxsize=64)
def data_type_of(dtype: np.dtype[Any]) -> int:
    """Return the DataType number that a dtype crosses the wire as; 0 (DT_INVALID) if it cannot."""
    try:
        return int(encode_tensor(np.empty(0, dtype)).dtype)
    except TensorError:
        return 0


def _joined(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
