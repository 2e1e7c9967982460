"""What a foreign model's output means: told by the user, checked against its values and its last operation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImportedModelError

_PASSED_ON = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "StopGradient", "EnsureShape"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_LINEAR = frozenset({"BiasAdd", "MatMul", "Add", "AddV2", "Conv2D", "Einsum", "BatchMatMulV2", "Mean"})
_MAX_STEPS = 1000
_TOLERANCE = 1e-3  # of a row's sum

_BINARY = "if it is the probability of the second of two classes, say --binary; if it is its logit, --binary --softmax"


class Values(Enum):
    """The scale of a model's output."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class Output:
    """What the user says of a model's output.

    Attributes:
        values: probabilities or logits.
        binary: whether there is one number an image, of the second of two classes.
    """

    values: Values = Values.PROBABILITIES
    binary: bool = False


def check_output(name: str, values: NDArray[np.float32], num_images: int, output: Output, operation: str) -> None:
    """Check a model's output against what the user says it is.

    Args:
        name: of the output.
        values: of several images.
        num_images: how many.
        output: what they should be.
        operation: the last in the graph that changes values, as `last_operation` gives it.

    Raises:
        ImportedModelError: with what it seems to be, and the flag that says so.
    """
    start = f"output {name}"
    if values.ndim != 2 or len(values) != num_images or values.shape[1] < 1 or not np.isfinite(values).all():
        raise ImportedModelError(
            f"{start}: expected finite numbers of shape ({num_images}, classes), at least two classes. Received: "
            f"shape {values.shape}, {int((~np.isfinite(values)).sum())} of them not finite"
        )
    if output.binary != (values.shape[1] == 1):
        expected = "one number an image with --binary" if output.binary else "at least two classes"
        hint = "" if output.binary else f" number an image; {_BINARY}"
        raise ImportedModelError(f"{start}: expected {expected}. Received: {values.shape[1]}{hint}")
    in_range = bool(values.min() >= 0 and values.max() <= 1 + _TOLERANCE)
    if output.binary:
        _check_binary(start, output, operation, in_range=in_range)
    else:
        sums = bool(np.abs(values.sum(axis=1) - 1).max() <= _TOLERANCE)
        _check_classes(start, output, operation, in_range=in_range, sums=sums)


def _check_binary(start: str, output: Output, operation: str, *, in_range: bool) -> None:
    if output.values is Values.LOGITS and in_range and operation == "Sigmoid":
        raise ImportedModelError(
            f"{start}: expected a logit for --softmax. Received: a probability; leave --softmax out"
        )
    if output.values is Values.PROBABILITIES and not in_range:
        raise ImportedModelError(
            f"{start}: expected a probability in [0, 1]. Received: numbers beyond it; if it is a logit, add --softmax"
        )


def _check_classes(start: str, output: Output, operation: str, *, in_range: bool, sums: bool) -> None:
    probabilities = in_range and sums
    if output.values is Values.LOGITS and (probabilities or operation in ("Softmax", "SoftmaxV2")):
        raise ImportedModelError(
            f"{start}: expected logits for --softmax. Received: rows in [0, 1] that sum to 1, probabilities already; "
            "leave --softmax out"
        )
    if probabilities:
        return
    if operation == "Sigmoid" or (in_range and operation not in _LINEAR):
        raise ImportedModelError(
            f"{start}: expected one probability distribution an image, rows that sum to 1. Received: numbers in [0, 1] "
            "that do not, as of several labels an image (multi-label, one sigmoid each): Fovea serves models of one "
            "label an image"
        )
    if output.values is Values.PROBABILITIES:
        raise ImportedModelError(
            f"{start}: probabilities: expected rows in [0, 1] that sum to 1. Received: something else; if the model "
            "gives logits, say --softmax"
        )


def finish_output(values: NDArray[np.float32], output: Output) -> NDArray[np.float32]:
    """Return probabilities, shape (images, classes), of a model's output."""
    if output.binary:
        second = 1 / (1 + np.exp(-values.astype(np.float64))) if output.values is Values.LOGITS else values
        return np.concatenate([1 - second, second], axis=1).astype(np.float32)
    if output.values is Values.PROBABILITIES:
        return values
    exponents = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def last_operation(graph: Any, tensor: str) -> str:
    """Return the operation that computes a tensor's values, behind what only passes values on; "" if it is not found.

    Args:
        graph: a GraphDef; functions are followed into.
        tensor: such as "StatefulPartitionedCall:0".
    """
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    for _ in range(_MAX_STEPS):
        name, _, index = tensor.removeprefix("^").partition(":")
        node = nodes.get(name)
        if node is None:
            return ""
        if node.op in _CALLS:
            function = functions.get(node.attr["f"].func.name)
            position = int(index.rpartition(":")[2] or 0)
            if function is None or position >= len(function.signature.output_arg):
                return ""
            nodes = {inner.name: inner for inner in function.node_def}
            tensor = function.ret.get(function.signature.output_arg[position].name, "")
        elif node.op in _PASSED_ON and node.input:
            tensor = node.input[0]
        else:
            return str(node.op)
    return ""
