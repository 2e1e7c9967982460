"""The Open Inference Protocol on the gateway, in front of a real model server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from contract.tensors import decode_tensor, tensor_pb2, types_pb2
from service import VERSION
from service.gateway.context.errors import BrokenContractError, InvalidArgumentError
from service.gateway.protocols.open_inference import describe_inputs, describe_outputs, parse_infer
from service.gateway.protocols.tensor_json import TensorSpec
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.helpers.server_process import ServerProcess
from tests.helpers.tiny_model import VARIANTS, build_image, expected_probabilities
from tests.service.gateway.conftest import StartGateway, run_gateway

LABELS = {1: VARIANTS["plain"].labels, 2: VARIANTS["permuted"].labels}  # 1 is previous, 2 live


@pytest.fixture(scope="module")
def oip(modelserver: ServerProcess) -> Iterator[TestClient]:
    """A gateway in front of the shared model server; `colours` 2 is live, 1 previous."""
    with run_gateway(backend=modelserver.address, models_dir=modelserver.store.root) as gateway:
        yield gateway


def infer(client: TestClient, document: Any, where: str = "colours", **headers: str) -> Any:
    return client.post(f"/v2/models/{where}/infer", json=document, headers=headers)


def pixels(images: np.ndarray, **other: Any) -> dict[str, Any]:
    return {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "data": images.tolist(), **other}


def files(*contents: bytes) -> dict[str, Any]:
    data = [base64.b64encode(content).decode() for content in contents]
    return {"name": "images", "shape": [len(data)], "datatype": "BYTES", "data": data}


def stack(*colours: str) -> np.ndarray:
    return np.stack([build_image(colour, 16) for colour in colours])


RED = stack("red")


def test_server_tells_its_name_and_health(oip: TestClient) -> None:
    """With and without a slash at the end, as both are written in the protocol."""
    for path in ("/v2", "/v2/"):
        extensions = ["binary_tensor_data", "classification"]
        assert {"name": "fovea", "version": VERSION, "extensions": extensions} == oip.get(path).json()
    assert {"live": True} == oip.get("/v2/health/live").json()
    assert {"ready": True} == oip.get("/v2/health/ready").json()


@pytest.mark.parametrize("where", ["", "/versions/1", "/versions/2"])
def test_metadata_tells_inputs_and_outputs(oip: TestClient, where: str) -> None:
    """Of serving_default, with all versions that may be asked for."""
    expected = {
        "name": "colours",
        "versions": ["1", "2"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    }

    assert expected == oip.get(f"/v2/models/colours{where}").json()
    assert {"name": "colours", "ready": True} == oip.get(f"/v2/models/colours{where}/ready").json()


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize(("where", "version"), [("colours", 2), ("colours/versions/1", 1), ("colours/versions/2", 2)])
def test_numbers_are_answered_by_the_version_asked_for(oip: TestClient, where: str, version: int, flat: bool) -> None:
    """In either form of the data; several images take the way of large bodies."""
    images = stack(*(COLOURS * 8))
    document = {"id": "42", "inputs": [pixels(images, data=images.reshape(-1).tolist() if flat else images.tolist())]}
    reply = infer(oip, document, where)

    assert 200 == reply.status_code, reply.text
    assert ("colours", str(version)) == (reply.headers["x-model-name"], reply.headers["x-model-version"])
    answer = reply.json()
    (output,) = answer.pop("outputs")
    probabilities = np.array(output.pop("data"))
    assert {"model_name": "colours", "model_version": str(version), "id": "42"} == answer
    assert {"name": "probabilities", "datatype": "FP32", "shape": [len(images), 3]} == output
    assert (3 * len(images),) == probabilities.shape
    assert np.abs(probabilities.reshape(-1, 3) - expected_probabilities(images, LABELS[version])).max() < 1e-5


def test_image_files_are_prepared_by_the_contract(oip: TestClient) -> None:
    """BYTES where the model takes pixels are files in base64, of any size and format."""
    contents = [encode(colour, kind, size=60) for colour, kind in zip(COLOURS, ("PNG", "BMP", "WEBP"), strict=True)]
    reply = infer(oip, {"inputs": [files(*contents)]}, "colours", **{"x-request-id": "one"})

    assert 200 == reply.status_code, reply.text
    assert "one" == reply.json()["id"]  # the request's, as the client gave none of its own
    probabilities = np.array(reply.json()["outputs"][0]["data"]).reshape(-1, 3)
    assert (
        np.abs(probabilities - expected_probabilities(stack(*COLOURS), LABELS[2])).max() < 0.01
    )  # WebP loses a little


def test_other_signatures_by_parameter_and_outputs_by_name(oip: TestClient) -> None:
    """`explain` has two inputs and two outputs; texts come as texts."""
    inputs = [{"name": "class_index", "shape": [1], "datatype": "INT32", "data": [-1]}, files(encode("red"))]
    document = {"parameters": {"signature_name": "explain"}, "inputs": inputs}
    both = infer(oip, document).json()["outputs"]
    one = infer(oip, {**document, "outputs": [{"name": "saliency", "parameters": {"binary_data": False}}]}).json()
    row = {"name": "row", "shape": [1], "datatype": "INT32", "data": [0]}
    (told,) = infer(oip, {"parameters": {"signature_name": "describe"}, "inputs": [row]}).json()["outputs"]

    assert ["probabilities", "saliency"] == [output["name"] for output in both]
    assert [[1, 3], [1, 4, 4]] == [output["shape"] for output in both]
    assert both[1:] == one["outputs"]
    assert ("BYTES", [1]) == (told["datatype"], told["shape"])
    assert "image-classification" == json.loads(told["data"][0])["task"]


ERRORS = [
    pytest.param(b"", "JSON Parse error: The document is empty", id="empty"),
    pytest.param(b"{", "JSON Parse error: ", id="broken"),
    pytest.param(b"[1]", "Is not object", id="list"),
    pytest.param({}, "inputs: Field required", id="no-inputs"),
    pytest.param({"inputs": 1}, "inputs: Input should be a valid list", id="inputs-number"),
    pytest.param({"inputs": []}, "inputs: expected images, each once. Received: none", id="inputs-empty"),
    pytest.param({"inputs": [1] * 100_000}, "inputs.0: ", id="many-wrong"),
    pytest.param({"inputs": [pixels(RED)] * 257}, "inputs: List should have at most 256 items", id="many-inputs"),
    pytest.param({"inputs": [pixels(RED)] * 2}, 'expected images, each once. Received: "images", "images"', id="twice"),
    pytest.param({"inputs": [pixels(RED, name="x")]}, 'expected images, each once. Received: "x"', id="name"),
    pytest.param({"inputs": [pixels(RED, name=None)]}, "inputs.0.name: ", id="no-name"),
    pytest.param({"inputs": [pixels(RED, datatype="FP32")]}, 'expected datatype UINT8. Received: "FP32"', id="type"),
    pytest.param({"inputs": [pixels(RED, datatype="uint8")]}, 'expected datatype UINT8. Received: "uint8"', id="case"),
    pytest.param(
        {"inputs": [pixels(RED[:, :8])]}, "Expecting shape [-1,16,16,3] but got: [1,8,16,3]", id="model-shape"
    ),
    pytest.param({"inputs": [pixels(RED, shape=[2, 16, 16, 3])]}, "flat. Received: [1,16,16,3]", id="data-shape"),
    pytest.param({"inputs": [pixels(RED, data=RED[0].tolist())]}, "flat. Received: [16,16,3]", id="half-flat"),
    pytest.param({"inputs": [pixels(RED, shape=[0, 16, 16, 3], data=[])]}, "at least one element", id="no-element"),
    pytest.param({"inputs": [pixels(RED, shape=[-1, 16, 16, 3])]}, "inputs.0.shape.0: ", id="negative"),
    pytest.param({"inputs": [pixels(RED, shape=[2**64 - 1, 16, 16, 3])]}, "Received: [1,16,16,3]", id="huge"),
    pytest.param({"inputs": [pixels(RED, shape=[1] * 33)]}, "inputs.0.shape: List should have at most 32", id="rank"),
    pytest.param({"inputs": [pixels(RED, shape=["1"])]}, "inputs.0.shape.0: ", id="shape-text"),
    pytest.param({"inputs": [pixels(RED, data=[[1, 2], [1]])]}, "unexpected size or level", id="ragged"),
    pytest.param({"inputs": [pixels(RED, data=[300] * 768)]}, "JSON Value: 300 Type: Number", id="range"),
    pytest.param({"inputs": [pixels(RED, data=["a"] * 768)]}, 'JSON Value: "a" Type: String', id="text"),
    pytest.param({"inputs": [pixels(RED, data=1)]}, "inputs.0.data: Input should be a valid list", id="no-list"),
    pytest.param({"inputs": [{**files(b"x"), "shape": [2]}]}, "as many as its shape says", id="files-shape"),
    pytest.param({"inputs": [{**files(b"x"), "data": [1]}]}, "flat list of base64 texts", id="files-number"),
    pytest.param({"inputs": [{**files(b"x"), "data": ["*"]}]}, "Unable to base64 decode", id="files-base64"),
    pytest.param({"inputs": [files()]}, "at least one element", id="no-files"),
    pytest.param({"inputs": [files(truncated_jpeg())]}, "cannot be decoded", id="files-broken"),
    pytest.param({"inputs": [pixels(RED)], "outputs": [{"name": "x"}]}, 'probabilities. Received: "x"', id="output"),
    pytest.param({"inputs": [pixels(RED)], "outputs": [1]}, "outputs.0: ", id="output-number"),
    pytest.param({"inputs": [pixels(RED)], "id": 5}, "id: Input should be a valid string", id="id"),
    pytest.param({"inputs": [pixels(RED)], "parameters": {"a": []}}, "expected texts, numbers and booleans", id="par"),
    pytest.param({"inputs": [pixels(RED)], "parameters": {"signature_name": 1}}, "expected a text", id="sig-number"),
    pytest.param(
        {"inputs": [pixels(RED)], "parameters": {"signature_name": "x"}}, '"x" not found in signature def', id="sig"
    ),
    pytest.param(
        {"inputs": [pixels(RED)], "outputs": [{"name": "probabilities"}] * 2}, "expected each once", id="output-twice"
    ),
    pytest.param(
        {"inputs": [pixels(RED)], "parameters": {"binary_data_output": 1}},
        "expected true or false",
        id="binary-outputs",
    ),
    pytest.param(
        {"inputs": [pixels(RED)], "outputs": [{"name": "probabilities", "parameters": {"binary_data": "yes"}}]},
        '"probabilities": parameters.binary_data: expected true or false. Received: "yes"',
        id="binary-output",
    ),
    *(
        pytest.param(
            {"inputs": [pixels(RED)], "outputs": [{"name": "probabilities", "parameters": {"classification": value}}]},
            "parameters.classification: expected a number from 0 on",
            id=f"classification-{value}",
        )
        for value in (-1, 2.0, "2", True, 2**63)
    ),
    pytest.param({"inputs": [pixels(RED, parameters={"binary_data_size": 768})]}, "Received: both", id="both"),
    pytest.param(
        {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES"}]}, "Received: neither", id="neither"
    ),
    pytest.param(
        {"inputs": [{**files(), "shape": [1], "data": None, "parameters": {"binary_data_size": 5}}]},
        "binary_data_size is 5; 0 bytes are left of the 0 after the JSON",
        id="no-binary",
    ),
    *(
        pytest.param({"inputs": [pixels(RED)], "parameters": {key: value}}, "GET /v2 lists those", id=key)
        for key, value in (("sequence_id", 7), ("sequence_id", "a"), ("sequence_start", True), ("sequence_end", True))
    ),
    pytest.param(
        {"inputs": [pixels(RED, parameters={"shared_memory_region": "r"})]}, "GET /v2 lists those", id="shared-input"
    ),
    pytest.param(
        {"inputs": [pixels(RED)], "outputs": [{"name": "probabilities", "parameters": {"shared_memory_offset": 1}}]},
        "GET /v2 lists those",
        id="shared-output",
    ),
]


@pytest.mark.parametrize(("body", "text"), ERRORS)
def test_what_does_not_fit_is_400_with_a_text(oip: TestClient, body: Any, text: str) -> None:
    """{"error": "..."}, saying what was expected; never a 500."""
    content = body if isinstance(body, bytes) else json.dumps(body)
    reply = oip.post("/v2/models/colours/infer", content=content)

    assert 400 == reply.status_code, reply.text
    assert {"error"} == reply.json().keys()
    assert text in reply.json()["error"]


def test_images_have_the_statuses_of_predict(oip: TestClient) -> None:
    """415 for a format that is not read, 413 for too many."""
    other, many, more = (infer(oip, {"inputs": [files(*data)]}) for data in ([b"%PDF-1.4"], [b"x"] * 65, [b""] * 4097))

    assert [415, 413, 413] == [reply.status_code for reply in (other, many, more)]
    assert all(isinstance(reply.json()["error"], str) for reply in (other, many, more))


@pytest.mark.parametrize("where", ["other", "other/versions/1", "colours/versions/9", "colours/versions/x", "%00"])
def test_what_is_not_there_is_404_with_a_text(oip: TestClient, where: str) -> None:
    """On every route of a model."""
    replies = [
        infer(oip, {"inputs": [pixels(RED)]}, where),
        *(oip.get(f"/v2/models/{where}{x}") for x in ("", "/ready")),
    ]

    assert {404} == {reply.status_code for reply in replies}
    assert all(isinstance(reply.json()["error"], str) for reply in replies)


def test_what_is_not_ready_is_503_and_says_when_to_ask_again(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """The server and the model; the process lives."""
    backend.versions["colours", 1] = scripted(state="LOADING")
    client = start_gateway(backend=backend.address, models_dir=index.root)
    replies = [client.get(f"/v2/{path}") for path in ("health/ready", "models/colours/ready")]

    assert {(503, "1")} == {(reply.status_code, reply.headers["retry-after"]) for reply in replies}
    assert all(isinstance(reply.json()["error"], str) for reply in replies)
    assert {"live": True} == client.get("/v2/health/live").json()


def test_unreachable_model_server_is_503(start_gateway: StartGateway, index: ModelStore, tmp_path: Path) -> None:
    """On the routes that ask it."""
    client = start_gateway(backend=f"unix:{tmp_path / 'nobody.sock'}", models_dir=index.root, predict_timeout_s=5)
    replies = [
        client.get("/v2/models/colours"),
        client.get("/v2/models/colours/ready"),
        infer(client, {"inputs": [pixels(RED)]}),
    ]

    assert {503} == {reply.status_code for reply in replies}
    assert all(isinstance(reply.json()["error"], str) for reply in replies)


def test_routes_are_named_in_metrics_by_their_pattern(oip: TestClient) -> None:
    """Not by what a client puts into the path."""
    oip.get("/v2/models/made-up-name/ready")
    text = oip.get("/metrics").text

    assert 'route="/v2/models/{model}/ready"' in text
    assert "made-up-name" not in text


@pytest.mark.parametrize(
    ("array", "datatype", "data"),
    [
        (np.array([[0.1, 2]], np.float32), "FP32", [0.1, 2.0]),
        (np.array([0.5]), "FP64", [0.5]),
        (np.array([True]), "BOOL", [True]),
        (np.array(7, np.int64), "INT64", [7]),
        (np.array([7], np.uint16), "UINT16", [7]),
        (np.array([["é".encode()]], object), "BYTES", ["é"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_outputs_have_the_protocols_types(array: np.ndarray, datatype: str, data: list[Any]) -> None:
    """Flat, with their shape."""
    reply = parse_infer(b'{"inputs": []}').dump("m", 1, {"x": array}, labels=(), request_id="7")
    (output,) = json.loads(reply.content)["outputs"]

    assert {"name": "x", "datatype": datatype, "shape": list(array.shape), "data": data} == output


def test_outputs_that_cannot_be_told_are_errors() -> None:
    """Bytes that are no text, and an output that the model server keeps to itself."""
    request = parse_infer(b'{"inputs": [], "outputs": [{"name": "x"}]}')
    with pytest.raises(InvalidArgumentError, match="'x' is not text"):
        request.dump("m", 1, {"x": np.array([b"\xff"], object)}, labels=(), request_id="7")
    with pytest.raises(BrokenContractError, match="'x'"):
        request.dump("m", 1, {}, labels=(), request_id="7")


def test_texts_are_inputs_where_a_model_takes_texts() -> None:
    """BYTES are texts there, not files."""
    spec = TensorSpec(types_pb2.DT_STRING, (-1, 2))
    tensor = {"name": "a", "shape": [1, 2], "datatype": "BYTES", "data": ["x", "é"]}
    request = parse_infer(json.dumps({"inputs": [tensor]}).encode())
    array = request.build(request.split({"a": spec}, [])["a"], spec)

    assert [[b"x", "é".encode()]] == array.tolist()
    (told,) = describe_inputs({"a": spec})
    assert ("BYTES", [-1, 2]) == (told.datatype, told.shape)


@pytest.mark.parametrize("name", ["DT_BFLOAT16", "DT_HALF", "DT_FLOAT", "DT_UINT8", "DT_INT64", "DT_BOOL", "DT_STRING"])
def test_metadata_and_replies_have_one_datatype(name: str) -> None:
    """An output of bfloat16 is decoded to float32, and metadata says so."""
    number = getattr(types_pb2, name)
    empty = tensor_pb2.TensorProto(dtype=number, tensor_shape={"dim": [{"size": 0}]})
    (told,) = describe_outputs({"y": TensorSpec(number, (-1,))})
    reply = parse_infer(b'{"inputs": []}').dump("m", 1, {"y": decode_tensor(empty)}, labels=(), request_id="7")

    assert told.datatype == json.loads(reply.content)["outputs"][0]["datatype"]
