"""Reads the layers of a published SavedModel: names, outputs for one image, the first convolution's filters.

The layers are found in the graph of `serving_default`, where each operation's name begins with that of its layer. So
the numbers are those of the network that is served, and imported networks have layers too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

_CALLS = re.compile(r"^(?:(?:Stateful)?PartitionedCall(?:_\d+)?/)+")
_INLINED = "Func/"  # begins names of the inputs and outputs of calls that were inlined
_COUNTED = re.compile(r"_\d+$")  # Keras counts how often a name was used in a process
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


@dataclass(frozen=True)
class Filters:
    """The first convolution's kernel, shape (rows, columns, channels, filters)."""

    layer: str
    kernel: NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """The pixels behind the preprocessing that is inside the graph, shape (height, width, channels)."""

    values: NDArray[np.float32]


class ServedLayers:
    """The layers of one version, in the order in which an image passes them.

    Args:
        directory: a SavedModel with the signature `serving_default`, whose input is `images`.
    """

    def __init__(self, directory: Path) -> None:
        self._loaded = tf.saved_model.load(str(directory))
        self._function = convert_variables_to_constants_v2(
            self._loaded.signatures["serving_default"], aggressive_inlining=True
        )
        self._images = next(t for t in self._function.inputs if t.dtype != tf.resource)
        operations = _on_the_way(self._function.outputs, self._images)
        names = _name_layers(operations)
        self._operations = [(name, operation) for operation, name in zip(operations, names, strict=True) if name]
        # The last output of a layer is the layer's.
        self._outputs = {name: operation.outputs[0] for name, operation in self._operations if _is_output(operation)}

    @property
    def names(self) -> list[str]:
        """Layers that give numbers for each image."""
        return list(self._outputs)

    @property
    def maps(self) -> list[str]:
        """Layers that give a feature map of more than one place."""
        return [name for name, output in self._outputs.items() if _is_map(output)]

    def compute(self, images: NDArray[np.uint8], layers: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the output of some layers for a batch, batch first."""
        tensors = [self._outputs[name] for name in layers]
        return dict(zip(layers, self._run(images, tensors), strict=True))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities of a batch."""
        return np.asarray(self._loaded.signatures["serving_default"](images=tf.constant(images))["probabilities"])

    def saliency(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return the map of the most probable class of each image, 0 to 1; None without a signature `explain`."""
        if "explain" not in self._loaded.signatures:
            return None
        chosen = tf.fill([len(images)], tf.constant(-1, tf.int32))
        answer = self._loaded.signatures["explain"](images=tf.constant(images), class_index=chosen)
        return np.asarray(answer["saliency"])

    def prepare(self, image: NDArray[np.uint8]) -> Prepared | None:
        """Return the input of the first layer for one image; None where that is no picture."""
        if not self._operations:
            return None
        _, first = self._operations[0]
        found = next((t for t in first.inputs if t.shape.rank == 4 and t.shape[0] is None), None)
        if found is None or not found.dtype.is_floating:
            return None
        (values,) = self._run(image[None], [found])
        return Prepared(values[0])

    def filters(self) -> Filters | None:
        """Return the kernel of the first convolution; None without one."""
        found = next(((name, op) for name, op in self._operations if op.type in _CONVOLUTIONS), None)
        if found is None:
            return None
        name, operation = found
        kernel = np.asarray(self._function.prune([], operation.inputs[1])(), np.float32)
        # A depthwise kernel has one filter for each channel; shown as filters over one channel.
        return Filters(name, kernel if operation.type == "Conv2D" else _over_one_channel(kernel))

    def _run(self, images: NDArray[np.uint8], tensors: Sequence[Any]) -> list[NDArray[np.float32]]:
        function = self._function.prune([self._images], list(tensors))
        values = function(tf.cast(images, self._images.dtype))
        return [np.asarray(value, np.float32) for value in values]


def _on_the_way(outputs: Sequence[Any], images: Any) -> list[Any]:
    """Return the operations between images and outputs, each behind those that it takes from."""
    reached: dict[str, bool] = {images.op.name: True}
    order: list[Any] = []
    stack = [(tensor.op, False) for tensor in outputs]
    while stack:
        operation, done = stack.pop()
        if done:
            reached[operation.name] = any(reached[tensor.op.name] for tensor in operation.inputs)
            if reached[operation.name]:
                order.append(operation)
        elif operation.name not in reached:
            reached[operation.name] = False
            stack.append((operation, True))
            stack += [(t.op, False) for t in reversed(operation.inputs) if t.op.name not in reached]
    return order


def _name_layers(operations: Sequence[Any]) -> list[str]:
    """Return the layer of each operation; "" for one of none, such as preprocessing and softmax around a network."""
    names = [operation.name for operation in operations]
    paths = [[] if name.startswith(_INLINED) else _CALLS.sub("", name).split("/") for name in names]
    deep = Counter(path[0] for path in paths if len(path) > 2)
    if len(deep) == 1:  # the scope of the network; what stands beside it is no layer
        network = next(iter(deep))
        paths = [path[1:] if path[:1] == [network] else [] for path in paths]
    scoped = [path for path in paths if len(path) > 1]
    if not scoped:  # a graph without scopes: each operation is a layer
        return [path[0] if path else "" for path in paths]
    short = _short_names(list(dict.fromkeys(path[0] for path in scoped)))
    return [short[path[0]] if len(path) > 1 else "" for path in paths]


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the names as the network's author gave them, where Keras has put a number behind each."""
    if not all(_COUNTED.search(name) for name in names):
        return {name: name for name in names}
    without = {name: _COUNTED.sub("", name) for name in names}
    times = Counter(without.values())
    return {name: short if times[short] == 1 else name for name, short in without.items()}


def _is_output(operation: Any) -> bool:
    if not operation.outputs or not operation.outputs[0].dtype.is_floating:
        return False
    shape = operation.outputs[0].shape
    return shape.rank is None or (shape.rank > 1 and shape[0] is None)  # behind a compiled call shapes are unknown


def _is_map(output: Any) -> bool:
    return output.shape.rank == 4 and None not in output.shape[1:] and output.shape[1] * output.shape[2] > 1


def _over_one_channel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = kernel.shape[:2]
    return kernel.reshape(rows, columns, 1, -1)
