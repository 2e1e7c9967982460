"""contract/tensors.py and stubs.py: TensorProto without TensorFlow, equal to TensorFlow's own."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from contract.errors import TensorError
from contract.tensors import (
    data_type_name,
    decode_tensor,
    encode_predict_request,
    encode_tensor,
    encode_typed_tensor,
    model_pb2,
    predict_pb2,
    tensor_pb2,
    tensor_shape_pb2,
    types_pb2,
)

NUMBERS = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


def proto(data_type: int, shape: list[int], **values: Any) -> Any:
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    return tensor_pb2.TensorProto(dtype=data_type, tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims), **values)


@pytest.mark.parametrize("dtype", [*NUMBERS, "float16"])
def test_round_trip(dtype: str) -> None:
    """Every number type survives, with its shape."""
    array = np.arange(6).reshape(1, 2, 3).astype(dtype)

    actual = decode_tensor(encode_tensor(array))

    assert array.dtype == actual.dtype
    assert np.array_equal(array, actual)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [*NUMBERS, "float16"])
def test_typed_fields_hold_each_value_once(dtype: str, shape: tuple[int, ...]) -> None:
    """Every type goes into its field, also scalars, empty arrays and views that are not contiguous."""
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype).T

    message = encode_typed_tensor(array)

    assert not message.tensor_content
    (field,) = {field.name for field, _ in message.ListFields()} - {"dtype", "tensor_shape"} or {"float_val"}
    assert len(getattr(message, field)) == array.size
    actual = decode_tensor(message)
    assert (actual.dtype, actual.tolist()) == (array.dtype, array.tolist())


def test_typed_fields_hold_special_numbers() -> None:
    """NaN, infinities, negative and largest numbers survive."""
    floats = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40], np.float32)
    assert floats.tobytes() == decode_tensor(encode_typed_tensor(floats)).tobytes()
    for dtype in ("int8", "int64", "uint64", "uint32"):
        limits = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        assert limits.tolist() == decode_tensor(encode_typed_tensor(limits)).tolist()


def test_more_than_64m_elements_pass() -> None:
    """A tensor is as large as its message may be; only repeated values have a limit of their own."""
    count = (1 << 26) + 1

    assert count == decode_tensor(proto(types_pb2.DT_UINT8, [count], tensor_content=bytes(count))).size


@pytest.mark.parametrize(
    "array",
    [np.array([b"a", b"\xff\0"], object), np.array(["gr\u00fcn"]), np.array([], object)],
    ids=["bytes", "text", "none"],
)
def test_strings_round_trip_as_bytes(array: np.ndarray) -> None:
    """Strings come back as bytes, text as UTF-8."""
    expected = [item.encode() if isinstance(item, str) else item for item in array.tolist()]

    assert expected == decode_tensor(encode_tensor(array)).tolist()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(proto(types_pb2.DT_FLOAT, [2, 2], float_val=[1, 2, 3, 4]), [[1, 2], [3, 4]], id="typed"),
        pytest.param(proto(types_pb2.DT_FLOAT, [4], float_val=[1, 2]), [1, 2, 2, 2], id="last-value-repeats"),
        pytest.param(proto(types_pb2.DT_INT32, [3]), [0, 0, 0], id="empty-is-zeros"),
        pytest.param(proto(types_pb2.DT_INT64, [], int64_val=[7]), 7, id="scalar"),
        pytest.param(proto(types_pb2.DT_HALF, [2], half_val=[0x3C00, 0x4000]), [1, 2], id="half"),
        pytest.param(proto(types_pb2.DT_BFLOAT16, [2], half_val=[0x3F80, 0x4000]), [1, 2], id="bfloat16"),
        pytest.param(proto(types_pb2.DT_STRING, [2], string_val=[b"x"]), [b"x", b"x"], id="string-repeats"),
        pytest.param(
            proto(types_pb2.DT_STRING, [3], tensor_content=b"\x01\x00\x82\x00abc"),
            [b"a", b"", b"bc"],
            id="string-content",
        ),
    ],
)
def test_typed_fields_follow_tensorflows_rules(message: Any, expected: Any) -> None:
    """TensorFlow Serving answers in typed fields, possibly shortened."""
    assert expected == decode_tensor(message).tolist()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(proto(types_pb2.DT_FLOAT, [2], tensor_content=b"123"), "8 bytes", id="content-too-short"),
        pytest.param(proto(types_pb2.DT_FLOAT, [1], float_val=[1, 2]), "at most 1", id="too-many"),
        pytest.param(proto(types_pb2.DT_STRING, [1], string_val=[b"", b""]), "at most 1", id="too-many-strings"),
        pytest.param(proto(types_pb2.DT_UINT8, [1], int_val=[300]), "out of range for type", id="overflow"),
        pytest.param(proto(types_pb2.DT_HALF, [1], half_val=[70000]), "over 16 bits", id="half-overflow"),
        pytest.param(proto(types_pb2.DT_FLOAT, [-1]), "fully known", id="unknown-size"),
        pytest.param(proto(types_pb2.DT_FLOAT, [1 << 20, 1 << 20], float_val=[1]), "limit is 268,435,456", id="huge"),
        pytest.param(proto(types_pb2.DT_STRING, [1 << 40], string_val=[b""]), "limit is 268,435,456", id="huge-texts"),
        pytest.param(proto(types_pb2.DT_FLOAT, [1 << 62, 1 << 62]), "limit is 268,435,456", id="beyond-64-bits"),
        pytest.param(
            proto(types_pb2.DT_FLOAT, [1 << 40], tensor_content=b"1234"), "bytes of tensor", id="huge-content"
        ),
        pytest.param(proto(types_pb2.DT_FLOAT, [0, 1 << 62, 1 << 62]), "numpy can hold", id="empty-and-huge"),
        pytest.param(proto(types_pb2.DT_FLOAT, [1] * 65, float_val=[1]), "65 axes", id="too-many-axes"),
        pytest.param(
            proto(types_pb2.DT_STRING, [2], tensor_content=b"\x01\x01a"), "2 bytes of strings", id="text-bytes"
        ),
        pytest.param(
            proto(types_pb2.DT_STRING, [2], tensor_content=b"\x80\x80"), "length of a string", id="text-length"
        ),
        pytest.param(proto(types_pb2.DT_STRING, [9], tensor_content=b"\x00"), "9 strings", id="text-count"),
        pytest.param(proto(types_pb2.DT_RESOURCE, [1]), "resource is not supported", id="type"),
        pytest.param(proto(0, [1]), "invalid is not supported", id="no-type"),
    ],
)
def test_broken_tensors_are_refused(message: Any, words: str) -> None:
    """A few bytes must neither crash nor fill memory."""
    with pytest.raises(TensorError, match=words):
        decode_tensor(message)


def test_other_dtypes_are_refused() -> None:
    """An array without a TensorFlow type is a TensorError."""
    with pytest.raises(TensorError, match="complex"):
        encode_tensor(np.zeros(1, np.complex64))


def test_unknown_type_numbers_have_a_name() -> None:
    """A message from a newer TensorFlow can still be spoken of."""
    assert "unknown dtype enum (9999)" == data_type_name(9999)


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


def test_stubs_do_not_import_tensorflow() -> None:
    """Message classes load without TensorFlow, in a fraction of its memory."""
    code = (
        "import sys, contract.tensors as t, psutil\n"
        "assert t.predict_pb2.PredictRequest\n"
        "print('tensorflow' in sys.modules, psutil.Process().memory_info().rss < 80e6)"
    )

    assert "False True" == run(code)


@pytest.mark.parametrize("first", ["stubs", "tensorflow"])
def test_tensorflow_and_stubs_live_in_one_process(first: str) -> None:
    """Whichever is imported first, TensorFlow works and both speak of the same messages."""
    imports = ["import contract.tensors as t", "import tensorflow as tf"]
    lines = imports if first == "stubs" else imports[::-1]
    lines += [
        "import numpy as np",
        "array = np.arange(6, dtype=np.float32).reshape(2, 3)",
        "theirs = tf.make_tensor_proto(array)",
        "assert isinstance(theirs, t.tensor_pb2.TensorProto)",
        "assert np.array_equal(t.decode_tensor(theirs), array)",
        "assert np.array_equal(tf.make_ndarray(t.encode_tensor(array)), array)",
        "assert np.array_equal(tf.make_ndarray(t.encode_typed_tensor(array)), array)",
        f"for name in {(*NUMBERS, 'float16', 'bfloat16')}:",
        "    for shape in ((), (0,), (1,), (2, 0), (2, 3)):",
        "        array = np.ones(shape).astype(tf.as_dtype(name).as_numpy_dtype)",
        "        for encode in (t.encode_tensor, t.encode_typed_tensor):",
        "            read = tf.make_ndarray(encode(array))",
        "            assert (read.dtype, read.tolist()) == (array.dtype, array.tolist()), (name, shape, encode)",
        "array = np.arange(6, dtype=np.float32).reshape(2, 3)",
        "from tensorflow.core.framework import tensor_pb2",
        "assert tensor_pb2.TensorProto is t.tensor_pb2.TensorProto",
        "print(float(tf.reduce_sum(tf.constant(array))))",
    ]

    assert "15.0" == run("\n".join(lines))


@pytest.mark.parametrize("version", [None, 1, 2**40])
@pytest.mark.parametrize("side", [1, 16, 224])
def test_predict_request_is_what_protobuf_would_write(version: int | None, side: int) -> None:
    """Framed by hand, read back by protobuf: the same message as its own classes make, whatever the lengths."""
    rng = np.random.default_rng(side)
    inputs = {
        "images": rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8),
        "class_index": np.array([-1, 0, 2], np.int32),
        "gain": np.array(1.5, np.float32),
    }
    expected = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name="eyes", signature_name="explain"), output_filter=["probabilities", "s"]
    )
    if version is not None:
        expected.model_spec.version.value = version
    for alias, array in inputs.items():
        expected.inputs[alias].CopyFrom(encode_tensor(array))
    written = encode_predict_request("eyes", "explain", version=version, inputs=inputs, outputs=["probabilities", "s"])

    assert expected == predict_pb2.PredictRequest.FromString(written)


def test_predict_request_takes_arrays_that_are_not_contiguous() -> None:
    """A view is written in row-major order, as its shape says."""
    images = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3)[::2]
    written = encode_predict_request("m", "serving_default", version=None, inputs={"images": images}, outputs=["p"])

    read = decode_tensor(predict_pb2.PredictRequest.FromString(written).inputs["images"])
    np.testing.assert_array_equal(images, read)
