"""Models like TensorFlow Serving's own, asked as its tests ask them, in the fields that its clients read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from contract.tensors import decode_tensor, tensor_pb2, types_pb2
from tests.helpers.half_plus import MODELS, NUMBER_TYPES, VERSION, build_example
from tests.helpers.model_client import ModelClient, build_request
from tests.helpers.server_process import run_server, wait_for_address

TWO = np.array([2.0], np.float32)


@pytest.fixture(scope="module", params=["typed", "content"])
def client(
    request: pytest.FixtureRequest, half_plus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelClient]:
    """A client of a server that answers in typed fields, as by default, and of one that answers in tensor_content."""
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "service.modelserver", "--port=0", f"--tuning_cache={folder / 'tuning'}"]
    command.append(f"--model_config_file={half_plus / 'models.config'}")
    command += ["--enable_serialization_as_tensor_content"] * (request.param == "content")
    log = folder / f"{request.param}.log"
    process = run_server(command, log)
    try:
        with ModelClient(wait_for_address(process, log)) as made:
            for name in MODELS:
                made.wait_for(name, VERSION, timeout_s=240)
            made.as_content = request.param == "content"  # type: ignore[attr-defined]
            yield made
    finally:
        process.terminate()
        process.wait(60)


def ask(client: ModelClient, model: str, signature: str, **inputs: NDArray[Any]) -> dict[str, Any]:
    """Returns the TensorProto of each output."""
    return dict(client.call(build_request(model, inputs, signature=signature)).outputs)


@pytest.mark.parametrize(("model", "expected"), [("half_plus_two", 3.0), ("half_plus_three", 4.0)])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (3,), (2, 1)], ids=str)
def test_half_plus(client: ModelClient, model: str, expected: float, shape: tuple[int, ...]) -> None:
    """TensorFlow Serving's tests send a vector to a signature of [-1, 1], and to one without a shape."""
    (y,) = ask(client, model, "serving_default", x=np.full(shape, 2.0, np.float32)).values()
    assert tuple(dim.size for dim in y.tensor_shape.dim) == shape
    assert decode_tensor(y).tolist() == np.full(shape, expected).tolist()
    if not client.as_content:  # type: ignore[attr-defined]
        assert list(y.float_val) == [expected] * int(np.prod(shape))


def test_metadata_has_no_shape_where_the_signature_has_none(client: ModelClient) -> None:
    """A client can tell an unknown rank from a scalar."""
    x = client.metadata("half_plus_three")["serving_default"].inputs["x"]
    assert not x.HasField("tensor_shape")
    scalar = client.metadata("functions")["scalar"].inputs["x"]
    assert scalar.HasField("tensor_shape") and not scalar.tensor_shape.dim and not scalar.tensor_shape.unknown_rank


@pytest.mark.parametrize("signature", ["regress_x_to_y", "classify_x_to_y"])
@pytest.mark.parametrize(("model", "expected"), [("half_plus_two", 3.0), ("half_plus_three", 4.0)])
def test_other_methods_signatures_take_predict(
    client: ModelClient, model: str, expected: float, signature: str
) -> None:
    """Predict runs signatures of Classify and Regress on serialised Examples."""
    (scores,) = ask(client, model, signature, inputs=np.array([build_example(2.0)], object)).values()
    assert decode_tensor(scores).tolist() == [[expected]]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 1, 1, 2)], ids=str)
def test_unknown_rank_takes_every_shape(client: ModelClient, shape: tuple[int, ...]) -> None:
    """`TensorSpec(None)` is asked with each rank, and the answer has it too."""
    (y,) = ask(client, "functions", "six_times", x=np.full(shape, 2.0, np.float32)).values()
    assert decode_tensor(y).shape == shape
    assert set(decode_tensor(y).reshape(-1)) == {np.float32(12.0)}


def test_scalars_in_and_out(client: ModelClient) -> None:
    """Rank 0 goes in and comes out, also beside an output that has rows."""
    assert decode_tensor(ask(client, "functions", "scalar", x=np.float32(2.0))["y"]).tolist() == 3.0
    assert decode_tensor(ask(client, "functions", "constant", x=TWO)["y"]).tolist() == 2.0
    both = ask(client, "functions", "mean", x=np.array([1, 2, 6], np.float32))
    assert decode_tensor(both["mean"]).tolist() == 3.0
    assert decode_tensor(both["y"]).tolist() == [1, 2, 6]


def test_texts_in_and_out(client: ModelClient) -> None:
    """Texts are in string_val whatever the flag says: it is where every client reads them."""
    answer = ask(client, "functions", "shout", text=np.array([b"eyes", b""], object))
    assert list(answer["text"].string_val) == [b"EYES", b""]
    assert decode_tensor(answer["size"]).tolist() == [4, 0]


def test_each_type_is_in_its_field(client: ModelClient) -> None:
    """Each number type arrives in TensorFlow's field of it, every value once; by the flag in tensor_content."""
    answer = ask(client, "functions", "cast", x=np.array([[0, 1], [1, 1]], np.float32))
    fields = {"float32": "float_val", "float64": "double_val", "float16": "half_val", "bool": "bool_val"}
    fields |= {"int64": "int64_val", "uint32": "uint32_val", "uint64": "uint64_val"}
    assert set(answer) == set(NUMBER_TYPES)
    for name, tensor in answer.items():
        array = decode_tensor(tensor)
        assert array.dtype == np.dtype(name)
        assert array.tolist() == np.array([[0, 1], [1, 1]], name).tolist()
        used = {field.name for field, _ in tensor.ListFields()} - {"dtype", "tensor_shape"}
        field = fields.get(name, "int_val")
        assert used == {"tensor_content" if client.as_content else field}  # type: ignore[attr-defined]
        if used == {field}:
            assert len(getattr(tensor, field)) == 4


def test_a_short_list_in_a_request_repeats_its_last_value(client: ModelClient) -> None:
    """One value for a shape of four, as TensorFlow's own writers shorten tensors."""
    request = build_request("functions", {}, signature="six_times")
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0])
    tensor.tensor_shape.dim.add().size = 4
    request.inputs["x"].CopyFrom(tensor)
    assert decode_tensor(client.call(request).outputs["y"]).tolist() == [6, 12, 12, 12]


def test_bfloat16_is_answered_as_its_bit_patterns(client: ModelClient) -> None:
    """bfloat16 shares half_val with half."""
    y = ask(client, "functions", "brain_float", x=np.array([1.0, -2.5], np.float32))["y"]
    assert y.dtype == types_pb2.DT_BFLOAT16
    assert decode_tensor(y).tolist() == [1.0, -2.5]
    if not client.as_content:  # type: ignore[attr-defined]
        assert list(y.half_val) == [0x3F80, 0xC020]


def test_a_type_that_is_not_supported_is_named(client: ModelClient) -> None:
    """An output of complex numbers is UNIMPLEMENTED in words, not a failure inside the server."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(client, "functions", "complex_number", x=TWO)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "output y: type complex64 is not supported"
