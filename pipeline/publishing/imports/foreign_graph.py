"""Gives a foreign SavedModel Fovea's signatures, by adding nodes around its graph.

    images uint8 -> cast -> preprocessing -> [the graph as it was] -> cast, sigmoid, softmax -> probabilities
    row int32 -> shape -> fill with the contract's JSON -> contract

The graph's own nodes and its variables stay as they are, so nothing is re-traced or re-saved: models of TensorFlow 1
and 2 go the same way, without importing TensorFlow. docs/decisions/0010-imported-models.md says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from contract.tensors import data_type_name, encode_tensor, read_shape, saved_model_pb2, types_pb2
from engine.saved_model import GRAPH_FILE, SERVE_TAG
from engine.signatures import find_signature
from pipeline.errors import ImportedModelError
from pipeline.networks.preprocessing import preprocessing_steps
from pipeline.publishing.imports.foreign_outputs import Output, Values
from pipeline.recipe.preprocessing_settings import Preprocessing

SIGNATURE = "serving_default"
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16, types_pb2.DT_DOUBLE)
_PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault")
_KEPT_SIGNATURES = "__saved_model_"  # how a SavedModel stores what must run after loading
# They read or write files or call back into Python: a classifier needs none, and a server would run them.
_REFUSED_OPS = frozenset(
    {"EagerPyFunc", "MatchingFiles", "PyFunc", "PyFuncStateless", "ReadFile", "WholeFileReaderV2", "WriteFile"}
)


@dataclass(frozen=True, slots=True)
class ForeignSignature:
    """Input and output of a foreign model.

    Attributes:
        input_name: name of its image input.
        input_dtype: "uint8" or "float32".
        shape: (height, width, channels); None where the model leaves it open.
        output_name: name of its output.
        output_tensor: name of the output's tensor in the graph.
    """

    input_name: str
    input_dtype: str
    shape: tuple[int | None, int | None, int | None]
    output_name: str
    output_tensor: str


def read_saved_model(directory: Path) -> Any:
    """Return the SavedModel message of a folder.

    Raises:
        ImportedModelError: if there is none, or it needs operations that a classifier does not.
    """
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString((directory / GRAPH_FILE).read_bytes())
    except (OSError, DecodeError) as err:
        raise ImportedModelError(
            f"{directory.name}: expected a SavedModel, a folder with {GRAPH_FILE} and variables/. Received: {err}"
        ) from err
    graph = serving_graph(message).graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    if refused := sorted({node.op for node in nodes} & _REFUSED_OPS):
        raise ImportedModelError(
            f"{directory.name}: expected a graph that neither touches files nor calls Python. "
            f"Received: the operations {', '.join(refused)}"
        )
    return message


def serving_graph(message: Any) -> Any:
    """Return the MetaGraph that is tagged for serving.

    Raises:
        ImportedModelError: if there is none.
    """
    for meta_graph in message.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {SERVE_TAG}:
            return meta_graph
    raise ImportedModelError(f"expected a SavedModel with a graph tagged {SERVE_TAG!r}. Received: none")


def read_foreign_signature(message: Any) -> ForeignSignature:
    """Return a model's input and output.

    Raises:
        ImportedModelError: unless `serving_default` takes one image tensor [batch, height, width, channels], uint8 or
            float32, and gives one float tensor [batch, classes].
    """
    signatures = serving_graph(message).signature_def
    if SIGNATURE not in signatures:
        names = ", ".join(sorted(name for name in signatures if not name.startswith(_KEPT_SIGNATURES)))
        raise ImportedModelError(f"expected a signature named {SIGNATURE}. Received: {names or 'none'}")
    signature = find_signature(signatures, SIGNATURE)
    (input_name, image) = _only(signature.inputs, "input", "an image tensor")
    (output_name, output) = _only(signature.outputs, "output", "the classes' probabilities")
    if image.dtype not in (types_pb2.DT_UINT8, types_pb2.DT_FLOAT):
        raise ImportedModelError(
            f"input {input_name}: expected uint8 or float. Received: {data_type_name(image.dtype)}"
        )
    if output.dtype not in _FLOATS:
        raise ImportedModelError(
            f"output {output_name}: expected a float type. Received: {data_type_name(output.dtype)}"
        )
    shape = _sizes(image, 4, f"input {input_name}: expected the shape [batch, height, width, channels]")
    classes = _sizes(output, 2, f"output {output_name}: expected the shape [batch, classes]")
    if shape[3] not in (None, 1, 3):
        raise ImportedModelError(f"input {input_name}: expected 1 or 3 channels, last. Received: shape {list(shape)}")
    if shape[0] is not None or classes[0] is not None:
        raise ImportedModelError(f"expected a free batch axis. Received: {shape[0]} in, {classes[0]} out")
    return ForeignSignature(
        input_name,
        "uint8" if image.dtype == types_pb2.DT_UINT8 else "float32",
        (shape[1], shape[2], shape[3]),
        output_name,
        output.name,
    )


def adapt_graph(
    message: Any, *, shape: tuple[int, int, int], preprocessing: Preprocessing, output: Output, contract: str
) -> None:
    """Give a SavedModel message the signatures `serving_default` and `describe`, and no others.

    Args:
        message: as `read_saved_model` gave it, with a signature as `read_foreign_signature` wants it; it is changed.
        shape: (height, width, channels) of the images.
        preprocessing: from pixels 0-255 to what the model takes; no arithmetic for a model that takes uint8.
        output: what the model gives.
        contract: the JSON that `describe` returns.

    Raises:
        ImportedModelError: if the input is not fed by a placeholder.
    """
    meta_graph = serving_graph(message)
    signature = meta_graph.signature_def[SIGNATURE]
    (image,), (scores,) = signature.inputs.values(), signature.outputs.values()
    nodes = _Nodes(meta_graph.graph_def)
    placeholder = nodes.find_placeholder(image.name)
    images = nodes.placeholder("images", types_pb2.DT_UINT8, (-1, *shape))
    pixels = images
    if image.dtype == types_pb2.DT_FLOAT:
        pixels = nodes.cast(images, types_pb2.DT_UINT8, types_pb2.DT_FLOAT)
    for op, operand in preprocessing_steps(preprocessing):
        pixels = nodes.reverse(pixels, image.dtype) if op == "Reverse" else nodes.arithmetic(op, pixels, operand)
    nodes.replace(placeholder, pixels, image.dtype)
    values = scores.name.removesuffix(":0")
    if scores.dtype != types_pb2.DT_FLOAT:
        values = nodes.cast(values, scores.dtype, types_pb2.DT_FLOAT)
    probabilities = nodes.finish(values, output)
    num_classes = int(scores.tensor_shape.dim[1].size) if len(scores.tensor_shape.dim) == 2 else -1
    num_classes = 2 if output.binary else num_classes
    row, described = _add_describe(nodes, contract)
    for name in [name for name in meta_graph.signature_def if not name.startswith(_KEPT_SIGNATURES)]:
        del meta_graph.signature_def[name]
    predict, describe = meta_graph.signature_def[SIGNATURE], meta_graph.signature_def["describe"]
    _fill(predict.inputs["images"], images, types_pb2.DT_UINT8, (-1, *shape))
    _fill(predict.outputs["probabilities"], probabilities, types_pb2.DT_FLOAT, (-1, num_classes))
    _fill(describe.inputs["row"], row, types_pb2.DT_INT32, (-1,))
    _fill(describe.outputs["contract"], described, types_pb2.DT_STRING, (-1,))
    predict.method_name = describe.method_name = "tensorflow/serving/predict"
    # TensorFlow 2's loader would rebuild the old signatures from it; without it, the new ones are read.
    meta_graph.ClearField("object_graph_def")


def _add_describe(nodes: _Nodes, contract: str) -> tuple[str, str]:
    row = nodes.placeholder("row", types_pb2.DT_INT32, (-1,))
    rows = nodes.add("Shape", "rows", [row], T=types_pb2.DT_INT32, out_type=types_pb2.DT_INT32)
    text = nodes.constant("contract_json", np.array(contract, dtype=object), types_pb2.DT_STRING)
    filled = nodes.add("Fill", "contract", [rows, text], T=types_pb2.DT_STRING, index_type=types_pb2.DT_INT32)
    return row, filled


class _Nodes:
    """Adds nodes to a GraphDef, under a name of their own."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        taken = {node.name.split("/")[0] for node in graph.node}
        self._scope = next(name for name in ("fovea", *(f"fovea_{i}" for i in range(1000))) if name not in taken)
        self._count = 0

    def find_placeholder(self, tensor: str) -> Any:
        """Return the placeholder node that a tensor comes from."""
        name, _, index = tensor.partition(":")
        found = next((node for node in self._graph.node if node.name == name), None)
        if found is None or found.op not in _PLACEHOLDERS or index not in ("", "0"):
            received = "no such node" if found is None else f"the operation {found.op}"
            raise ImportedModelError(f"input {tensor}: expected a placeholder. Received: {received}")
        return found

    def add(self, op: str, name: str, inputs: list[str], **types: int) -> str:
        """Add a node whose attributes are types, and return its name."""
        node = self._graph.node.add(op=op, name=f"{self._scope}/{name}", input=inputs)
        for key, value in types.items():
            node.attr[key].type = value
        return str(node.name)

    def placeholder(self, name: str, dtype: int, shape: tuple[int, ...]) -> str:
        """Add a placeholder; -1 is a free axis."""
        added = self.add("Placeholder", name, [], dtype=dtype)
        for size in shape:
            self._graph.node[-1].attr["shape"].shape.dim.add().size = size
        return added

    def constant(self, name: str, value: NDArray[Any], dtype: int) -> str:
        """Add a constant."""
        added = self.add("Const", name, [], dtype=dtype)
        self._graph.node[-1].attr["value"].tensor.CopyFrom(encode_tensor(value))
        return added

    def cast(self, source: str, before: int, after: int) -> str:
        """Add a conversion."""
        return self.add("Cast", self._numbered("cast"), [source], SrcT=before, DstT=after)

    def arithmetic(self, op: str, source: str, operand: Any) -> str:
        """Add a float operation with a constant on its right."""
        name = self._numbered(op.lower())
        constant = self.constant(f"{name}_by", np.asarray(operand, np.float32), types_pb2.DT_FLOAT)
        return self.add(op, name, [source, constant], T=types_pb2.DT_FLOAT)

    def finish(self, values: str, output: Output) -> str:
        """Add what makes probabilities of a model's output."""
        dtype = types_pb2.DT_FLOAT
        if not output.binary:
            op = "Softmax" if output.values is Values.LOGITS else "Identity"
            return self.add(op, "probabilities", [values], T=dtype)
        if output.values is Values.LOGITS:
            values = self.add("Sigmoid", "second", [values], T=dtype)
        one = self.constant("one", np.array(1, np.float32), dtype)
        first = self.add("Sub", "first", [one, values], T=dtype)
        axis = self.constant("classes_axis", np.array(1, np.int32), types_pb2.DT_INT32)
        joined = self.add("ConcatV2", "probabilities", [first, values, axis], T=dtype, Tidx=types_pb2.DT_INT32)
        self._graph.node[-1].attr["N"].i = 2
        return joined

    def reverse(self, source: str, dtype: int) -> str:
        """Add a reversal of the channels."""
        axis = self.constant(f"{self._numbered('channels')}_axis", np.array([-1], np.int32), types_pb2.DT_INT32)
        return self.add("ReverseV2", self._numbered("bgr"), [source, axis], T=dtype, Tidx=types_pb2.DT_INT32)

    def replace(self, node: Any, source: str, dtype: int) -> None:
        """Make a placeholder pass on what another node gives; who reads it need not know."""
        node.op = "Identity"
        del node.input[:]
        node.input.append(source)
        node.device = ""
        node.attr.clear()
        node.attr["T"].type = dtype

    def _numbered(self, name: str) -> str:
        self._count += 1
        return f"{name}_{self._count}"


def _only(tensors: Any, kind: str, what: str) -> tuple[str, Any]:
    if len(tensors) != 1:
        raise ImportedModelError(
            f"{SIGNATURE}: expected one {kind}, {what}. Received: {', '.join(sorted(tensors)) or 'none'}"
        )
    ((name, info),) = tensors.items()
    return name, info


def _sizes(info: Any, rank: int, expected: str) -> tuple[int | None, ...]:
    shape = read_shape(info)
    if shape is None:
        return (None,) * rank
    sizes = tuple(size if size >= 0 else None for size in shape)
    if len(sizes) != rank:
        raise ImportedModelError(f"{expected}. Received: {list(sizes)}")
    return sizes


def _fill(info: Any, node: str, dtype: int, shape: tuple[int, ...]) -> None:
    info.name, info.dtype = f"{node}:0", dtype
    for size in shape:
        info.tensor_shape.dim.add().size = size
