"""Files of other people's models: told apart before TensorFlow is imported, and opened as a SavedModel.

A Keras file is read without running what it brings: custom objects and layers of Python code are refused by its
configuration, before Keras builds anything.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.network_file import has_network_file
from engine.saved_model import GRAPH_FILE
from pipeline.errors import ImportedModelError

Kind = Literal["saved_model", "version", "keras", "hdf5", "onnx"]

_EXPECTED = (
    f"a SavedModel, a folder with {GRAPH_FILE} and variables/, a Keras file (.keras, .h5) or an ONNX file (.onnx)"
)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_CONFIG = "config.json"
_HEAD_BYTES = 16
# What else people have, by the end of the name.
_OTHERS = {
    ".tflite": "a TensorFlow Lite file, which cannot be turned back: import the model that it was converted from",
    ".pt": "a PyTorch file",
    ".pth": "a PyTorch file",
    ".safetensors": "a file of weights alone",
    ".pb": f"a graph alone: give the folder that holds {GRAPH_FILE}",
    ".zip": "a zip archive: unpack it first",
    ".gz": "an archive: unpack it first",
    ".tar": "an archive: unpack it first",
    ".json": "a JSON file",
}
# They hold or load code: Python's byte code, a pickled PyTorch module, a SavedModel of any path.
_CODE_LAYERS = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "TFSMLayer"})


@dataclass(frozen=True)
class Original:
    """A foreign model as a SavedModel, and the program that it came from.

    Attributes:
        directory: the SavedModel.
        predict: the network's own answer to preprocessed images; None: the SavedModel's.
    """

    directory: Path
    predict: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None


def find_kind(path: Path) -> Kind:
    """Return what a path holds.

    Raises:
        ImportedModelError: if it is no model that can be imported; the message says what it is, as far as it shows.
    """
    if path.is_dir():
        if (path / GRAPH_FILE).is_file():
            return "saved_model"
        if has_network_file(path):
            return "version"
        raise ImportedModelError(
            f"{path}: expected {_EXPECTED}. Received: a folder without {GRAPH_FILE}{_inside(path)}"
        )
    if not path.is_file():
        raise ImportedModelError(f"{path}: expected {_EXPECTED}. Received: no such file or folder")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as err:
        raise ImportedModelError(f"{path} cannot be read: {err.strerror or err}") from err
    if head.startswith(_HDF5):
        return "hdf5"
    if zipfile.is_zipfile(path) and _is_keras_zip(path):
        return "keras"
    if path.suffix.lower() == ".onnx":  # the format has no bytes to know it by
        return "onnx"
    known = "a folder is expected: give the folder that holds it" if path.name == GRAPH_FILE else ""
    other = known or _OTHERS.get(path.suffix.lower(), f"{path.stat().st_size} bytes of another format")
    raise ImportedModelError(f"{path}: expected {_EXPECTED}. Received: {other}")


def _is_keras_zip(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return _CONFIG in archive.namelist()


def _inside(folder: Path) -> str:
    """Return a hint at a model just below a folder, such as the numbered one of a server's folder."""
    try:
        below = sorted(entry for entry in folder.iterdir() if (entry / GRAPH_FILE).is_file())
        files = sorted(entry for entry in folder.iterdir() if entry.suffix in (".keras", ".h5", ".hdf5"))
    except OSError:
        return ""
    found = [*below, *files]
    return f"; did you mean {found[-1]}?" if found else ""


@contextmanager
def open_original(path: Path) -> Iterator[Original]:
    """Give a model as a SavedModel; what is written for that is removed afterwards.

    Raises:
        ImportedModelError: if it cannot be read.
    """
    kind = find_kind(path)
    if kind in ("saved_model", "version"):
        yield Original(path)
        return
    _refuse_code(path, _read_config(path, kind))
    with tempfile.TemporaryDirectory(prefix="fovea-") as folder:
        yield _export(path, Path(folder) / "exported", kind)


def _export(path: Path, directory: Path, kind: Kind) -> Original:
    """Write a Keras file as a SavedModel."""
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
        """Reads what Keras 2 wrote, such as Teachable Machine's: `groups` is always 1 there and unknown to Keras 3."""

        def __init__(self, *args: Any, groups: int = 1, **options: Any) -> None:
            super().__init__(*args, **options)

    # Keras goes by the name's end.
    named = directory.with_name("model.keras" if kind == "keras" else "model.h5")
    named.symlink_to(path.resolve())
    try:
        known = {"DepthwiseConv2D": DepthwiseConv2D}
        model = keras.models.load_model(named, custom_objects=known, compile=False, safe_mode=True)
        model.export(directory, verbose=False)
    except Exception as err:
        raise ImportedModelError(
            f"{path.name}: Keras {keras.version()} cannot read it: {_first_line(err)}. If another version wrote it, "
            "write a SavedModel there with model.export(DIR), and import DIR"
        ) from err
    return Original(directory, lambda images: np.asarray(model(images, training=False), np.float32))


def _first_line(err: Exception) -> str:
    lines = str(err).strip().splitlines() or [type(err).__name__]
    return lines[0][:300].rstrip(".")


def _read_config(path: Path, kind: Kind) -> Any:
    """Return the configuration of a Keras file's network."""
    try:
        if kind == "keras":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read(_CONFIG))
        import h5py

        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as err:
        raise ImportedModelError(f"{path.name} cannot be read as a Keras file: {_first_line(err)}") from err
    if config is None:
        raise ImportedModelError(
            f"{path.name}: expected a whole model, as model.save writes it. Received: weights alone; build the model "
            "where its code is, load them there, and import what model.save or model.export writes"
        )
    try:
        return json.loads(config)
    except ValueError as err:
        raise ImportedModelError(f"{path.name}: its model_config is not JSON: {err}") from err


def _refuse_code(path: Path, config: Any) -> None:
    names = dict.fromkeys(_foreign_objects(config))
    if names:
        raise ImportedModelError(
            f"{path.name}: expected layers of Keras alone, since a file's own code is not run. Received: "
            f"{', '.join(names)}; where that code is, write a SavedModel with model.export(DIR), and import DIR"
        )


def _foreign_objects(value: Any) -> Iterator[str]:
    """Yield the names of layers and functions that are not Keras's own, or that hold code."""
    if isinstance(value, Mapping):
        name, module = value.get("class_name"), value.get("module")
        registered = str(value.get("registered_name") or "")
        if isinstance(name, str):
            own = module is None or str(module).split(".")[0] in ("keras", "builtins")
            if name in _CODE_LAYERS:
                yield name
            elif name == "function" and str(module).split(".")[0] != "keras":
                yield f"the function {value.get('config')}"
            elif ">" in name or not own or (">" in registered and not registered.startswith("keras")):
                yield registered or (name if ">" in name else f"{module}.{name}")
        for key, inner in value.items():
            if key not in ("compile_config", "build_config"):  # neither is read without compiling
                yield from _foreign_objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _foreign_objects(inner)


def restore_as_constants(directory: Path, target: Path) -> Original:
    """Load a SavedModel by its objects, as TensorFlow does, and write it with its weights as constants.

    Servers restore variables by the graph's own operations; what `tf.saved_model.save` writes of a Keras 3 model lacks
    some of them.

    Raises:
        ImportedModelError: if TensorFlow cannot load it either.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        loaded = tf.saved_model.load(str(directory))
        signature = loaded.signatures["serving_default"]
        ((input_name, spec),) = signature.structured_input_signature[1].items()
        (output_name,) = signature.structured_outputs
        frozen = convert_variables_to_constants_v2(signature)

        def serve(images: Any) -> dict[str, Any]:
            (values,) = frozen(images)
            return {output_name: values}

        spec = tf.TensorSpec(spec.shape, spec.dtype, name=input_name)
        function = tf.function(serve, input_signature=[spec], autograph=False)
        tf.saved_model.save(tf.Module(), str(target), signatures={"serving_default": function})
    except Exception as err:
        raise ImportedModelError(f"{directory.name} cannot be loaded: {_first_line(err)}") from err

    def predict(images: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(signature(**{input_name: tf.constant(images)})[output_name], np.float32)

    return Original(target, predict)
