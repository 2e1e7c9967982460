"""Models like those that TensorFlow Serving tests itself with, written with TensorFlow.

python -m tests.helpers.half_plus DIR     writes every model to DIR/<name>/123, and DIR/models.config
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

VERSION = 123
MODELS = ("half_plus_two", "half_plus_three", "functions")
NUMBER_TYPES = (
    *("float32", "float64", "float16", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def build(root: Path) -> None:
    """Writes half_plus_two, half_plus_three (without shapes), a model of odd signatures, and their models.config."""
    _build_graph(root / "half_plus_two" / str(VERSION), increment=2.0, with_shapes=True)
    _build_graph(root / "half_plus_three" / str(VERSION), increment=3.0, with_shapes=False)
    _build_functions(root / "functions" / str(VERSION))
    models = [f'config {{ name: "{m}" base_path: "{root / m}" model_platform: "tensorflow" }}' for m in MODELS]
    (root / "models.config").write_text(f"model_config_list {{ {' '.join(models)} }}")


def build_example(x: float) -> bytes:
    """Returns a serialised tf.train.Example with the feature x."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    feature = field(1, b"x") + field(2, field(2, field(1, struct.pack("<f", x))))
    return field(1, field(1, feature))


def _build_graph(directory: Path, *, increment: float, with_shapes: bool) -> None:
    """Writes y = x / 2 + increment by the first API: x is no placeholder but a feature of a parsed Example."""
    import tensorflow.compat.v1 as tf  # seconds and half a gigabyte: only the process that builds pays

    constants = tf.saved_model.signature_constants
    builder = tf.saved_model.builder.SavedModelBuilder(str(directory))
    with tf.Session(graph=tf.Graph()) as session:
        examples = tf.placeholder(tf.string, name="tf_example", shape=[None])
        parsed = tf.parse_example(examples, {"x": tf.FixedLenFeature([1], dtype=tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        y = tf.identity(tf.Variable(0.5, name="a") * x + tf.Variable(increment, name="b"), name="y")
        signatures = {
            constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: _sign({"x": x}, {"y": y}, constants.PREDICT_METHOD_NAME),
            "regress_x_to_y": _sign({"inputs": examples}, {"outputs": y}, constants.REGRESS_METHOD_NAME),
            "classify_x_to_y": _sign({"inputs": examples}, {"scores": y}, constants.CLASSIFY_METHOD_NAME),
        }
        for signature in () if with_shapes else signatures.values():
            for info in (*signature.inputs.values(), *signature.outputs.values()):
                info.ClearField("tensor_shape")
        session.run(tf.global_variables_initializer())
        builder.add_meta_graph_and_variables(session, [tf.saved_model.tag_constants.SERVING], signatures)
    builder.save()


def _sign(inputs: dict[str, Any], outputs: dict[str, Any], method: str) -> Any:
    import tensorflow.compat.v1 as tf

    described = [
        {name: tf.saved_model.build_tensor_info(t) for name, t in tensors.items()} for tensors in (inputs, outputs)
    ]
    return tf.saved_model.build_signature_def(*described, method)


def _build_functions(directory: Path) -> None:
    """Writes a model of several signatures: of unknown rank, with scalars, constants and texts, and of each type."""
    import tensorflow as tf

    module = tf.Module()
    module.v = tf.Variable(3.0)
    any_shape = tf.TensorSpec(None, tf.float32, name="x")

    @tf.function(input_signature=[any_shape])
    def six_times(x: Any) -> dict[str, Any]:
        return {"y": module.v * 2.0 * x}

    @tf.function(input_signature=[any_shape])
    def constant(x: Any) -> dict[str, Any]:
        return {"y": 2.0}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def scalar(x: Any) -> dict[str, Any]:
        return {"y": x + 1.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def mean(x: Any) -> dict[str, Any]:
        return {"mean": tf.reduce_mean(x), "y": x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def shout(text: Any) -> dict[str, Any]:
        return {"text": tf.strings.upper(text), "size": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def cast(x: Any) -> dict[str, Any]:
        return {name: tf.cast(x, name) for name in NUMBER_TYPES}

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])
    def with_default(x: Any = tf.constant([4.0])) -> dict[str, Any]:  # noqa: B008
        return {"y": x}

    @tf.function(input_signature=[any_shape])
    def brain_float(x: Any) -> dict[str, Any]:
        return {"y": tf.cast(x, tf.bfloat16)}

    @tf.function(input_signature=[any_shape])
    def complex_number(x: Any) -> dict[str, Any]:
        return {"y": tf.cast(x, tf.complex64)}

    signatures = {"six_times": six_times, "constant": constant, "scalar": scalar, "mean": mean}
    signatures |= {"serving_default": six_times, "shout": shout, "cast": cast, "with_default": with_default}
    signatures |= {"brain_float": brain_float, "complex_number": complex_number}
    tf.saved_model.save(module, str(directory), signatures=signatures)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    build(Path(sys.argv[1]))
