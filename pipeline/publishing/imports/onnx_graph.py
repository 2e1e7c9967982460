"""Gives an ONNX model the input and output of a version, as a network of OpenVINO's own, by OpenVINO's ONNX reader.

    images uint8 NHWC -> float -> preprocessing -> [NCHW] -> [the model as it was] -> sigmoid, softmax -> probabilities

docs/decisions/0063-onnx-models.md says why there is no SavedModel of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.store import NETWORK_FILE
from engine.runtimes.openvino import import_openvino, openvino_reason
from pipeline.errors import ImportedModelError
from pipeline.networks.preprocessing import preprocessing_steps
from pipeline.publishing.imports.foreign_outputs import Output, Values
from pipeline.recipe.preprocessing_settings import Preprocessing

_OPERATIONS = {"Mul": "multiply", "AddV2": "add", "RealDiv": "divide", "Sub": "subtract"}
# Operations by TensorFlow's names for them, as `check_output` knows them.
_NAMES = {"SoftMax": "Softmax", "Add": "AddV2", "Convolution": "Conv2D", "ReduceMean": "Mean"}
_PASSED_ON = frozenset({"Convert", "Reshape", "Squeeze", "Unsqueeze", "Transpose"})
_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX model with one image input and one output.

    Attributes:
        model: the `openvino.Model`, with a free batch axis.
        input_name: name of its input.
        input_dtype: "uint8" or "float32"; other float types are taken as float32.
        channels_first: whether the input is NCHW; NHWC otherwise.
        shape: (height, width, channels); None where the model leaves it open.
        output_name: name of its output.
        operation: the last that changes values, by TensorFlow's name.
    """

    model: Any
    input_name: str
    input_dtype: str
    channels_first: bool
    shape: tuple[int | None, int | None, int]
    output_name: str
    operation: str

    def predict(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return the model's own answer to preprocessed images, shape (images, height, width, channels)."""
        values = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.channels_first else images
        dtype = self.model.inputs[0].get_element_type().to_dtype()
        core = import_openvino().Core()
        compiled = core.compile_model(self.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        try:
            return np.asarray(compiled([values.astype(dtype)])[0], np.float32)
        except RuntimeError as err:
            raise ImportedModelError(
                f"the model does not run on images of shape {images.shape}: {openvino_reason(err)}"
            ) from err


def read_onnx(path: Path) -> OnnxModel:
    """Return an ONNX model, weights in files beside it included.

    Raises:
        ImportedModelError: unless OpenVINO can read it, it takes one image tensor, NCHW or NHWC, uint8 or float, and
            gives one float tensor [batch, classes].
    """
    try:
        model = import_openvino().Core().read_model(path.resolve())
    except RuntimeError as err:
        raise ImportedModelError(f"{path.name}: OpenVINO cannot read it: {openvino_reason(err)}") from err
    image, scores = _only(path, model.inputs, "input"), _only(path, model.outputs, "output")
    input_name, output_name = _name(image), _name(scores)
    dtype = image.get_element_type().to_dtype()
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise ImportedModelError(f"input {input_name}: expected uint8 or a float type. Received: {dtype}")
    channels_first, shape = _layout(input_name, image.get_partial_shape())
    _free_batch(path, model, image)
    return OnnxModel(
        model,
        input_name,
        "uint8" if dtype == np.uint8 else "float32",
        channels_first,
        shape,
        output_name,
        _last_operation(model.outputs[0]),
    )


def write_network(
    found: OnnxModel,
    directory: Path,
    *,
    shape: tuple[int, int, int],
    preprocessing: Preprocessing,
    output: Output,
) -> None:
    """Write NETWORK_FILE and its weights: the model between images and probabilities of a version.

    Args:
        found: as `read_onnx` gave it; it is changed.
        directory: of the version.
        shape: (height, width, channels) of the images.
        preprocessing: from pixels 0-255 to what the model takes; no arithmetic for a model that takes uint8.
        output: what the model gives.
    """
    import openvino
    from openvino import opset15 as ops

    model = found.model
    (parameter,) = model.get_parameters()
    images = ops.parameter([-1, *shape], np.uint8, name="images")
    values = images if found.input_dtype == "uint8" else ops.convert(images, np.float32)
    for operation, operand in preprocessing_steps(preprocessing):
        if operation == "Reverse":
            values = ops.gather(values, np.arange(shape[2])[::-1].astype(np.int32), np.int32(3))
        else:
            values = getattr(ops, _OPERATIONS[operation])(values, np.asarray(operand, np.float32))
    dtype = parameter.get_element_type()
    if found.input_dtype != "uint8" and dtype.to_dtype() != np.float32:
        values = ops.convert(values, dtype)
    if found.channels_first:
        values = ops.transpose(values, np.array([0, 3, 1, 2], np.int32))
    source = model.get_results()[0].input(0).get_source_output()
    parameter.output(0).replace(values.output(0))
    scores = ops.convert(source, np.float32) if source.get_element_type().to_dtype() != np.float32 else source
    probabilities = _finish(ops, scores, output)
    wrapped = openvino.Model([ops.result(probabilities)], [images], "fovea")
    wrapped.inputs[0].get_tensor().set_names({"images"})
    wrapped.outputs[0].get_tensor().set_names({"probabilities"})
    openvino.save_model(wrapped, directory / NETWORK_FILE, compress_to_fp16=False)


def _finish(ops: Any, scores: Any, output: Output) -> Any:
    """Return what makes probabilities of a model's output."""
    if not output.binary:
        return ops.softmax(scores, 1) if output.values is Values.LOGITS else scores
    second = ops.sigmoid(scores) if output.values is Values.LOGITS else scores
    return ops.concat([ops.subtract(np.float32(1), second), second], 1)


def _only(path: Path, ports: Any, what: str) -> Any:
    if len(ports) != 1:
        names = ", ".join(_name(port) for port in ports) or "none"
        raise ImportedModelError(f"{path.name}: expected one {what}. Received: {names}")
    return ports[0]


def _name(port: Any) -> str:
    return min(port.get_names(), default=port.get_node().get_friendly_name())


def _layout(name: str, shape: Any) -> tuple[bool, tuple[int | None, int | None, int]]:
    """Return whether an input is NCHW, and its height, width and channels."""
    if shape.rank.is_dynamic or len(shape) != 4:
        raise ImportedModelError(
            f"input {name}: expected an image tensor, [batch, channels, height, width] or [batch, height, width, "
            f"channels]. Received: shape {shape}"
        )
    sizes = [None if size.is_dynamic else size.get_length() for size in shape]
    first, last = sizes[1] in _CHANNELS, sizes[3] in _CHANNELS
    if first == last:
        raise ImportedModelError(f"input {name}: expected 1 or 3 channels, second or last. Received: shape {shape}")
    if first:
        return True, (sizes[2], sizes[3], int(sizes[1] or 0))
    return False, (sizes[1], sizes[2], int(sizes[3] or 0))


def _free_batch(path: Path, model: Any, image: Any) -> None:
    """Free the batch axis of a model's input, where the export fixed it.

    Raises:
        ImportedModelError: if its output does not follow.
    """
    shape = image.get_partial_shape()
    shape[0] = -1
    try:
        model.reshape({image: shape})
    except RuntimeError as err:
        raise ImportedModelError(
            f"{path.name}: its batch axis cannot be freed: {openvino_reason(err)}{_EXPORT_HINT}"
        ) from err
    found = model.outputs[0].get_partial_shape()
    if found.rank.is_static and len(found) == 2 and found[0].is_static:
        raise ImportedModelError(
            f"output {_name(model.outputs[0])}: expected a free batch axis. Received: shape {found}{_EXPORT_HINT}"
        )


_EXPORT_HINT = "; export it with a dynamic batch axis (torch.onnx.export: dynamic_shapes or dynamic_axes)"


def _last_operation(output: Any) -> str:
    """Return the operation that computes an output's values, behind what only passes values on."""
    node = output.get_node()
    while node.get_type_name() in (*_PASSED_ON, "Result") and node.get_input_size():
        node = node.input(0).get_source_output().get_node()
    name = str(node.get_type_name())
    return _NAMES.get(name, name)
