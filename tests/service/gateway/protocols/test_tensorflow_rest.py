"""TensorFlow Serving's REST API on the gateway, in front of a real model server."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from contract.tensors import types_pb2
from service.gateway.context.errors import InvalidArgumentError
from service.gateway.http.json_text import dump_arrays
from service.gateway.protocols.tensor_json import TensorSpec, build_array
from service.gateway.protocols.tensorflow_rest import build_reply, parse_request, split_inputs
from tests.conftest import StartModelServer
from tests.helpers.model_client import END, ModelClient
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.helpers.server_process import ServerProcess
from tests.helpers.tiny_model import VARIANTS, build_image, expected_probabilities, publish_variant
from tests.service.gateway.conftest import run_gateway

LABELS = {1: VARIANTS["plain"].labels, 2: VARIANTS["permuted"].labels}  # 1 is previous, 2 live


@pytest.fixture(scope="module")
def rest(modelserver: ServerProcess) -> Iterator[TestClient]:
    """A gateway in front of the shared model server; `colours` 2 is live, 1 previous."""
    with run_gateway(backend=modelserver.address, models_dir=modelserver.store.root) as gateway:
        yield gateway


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def post(client: TestClient, document: Any, where: str = "colours") -> Any:
    return client.post(f"/v1/models/{where}:predict", json=document)


def expected(colours: list[str], version: int) -> np.ndarray:
    images = np.stack([build_image(colour, 16) for colour in colours])
    return expected_probabilities(images, LABELS[version])


@pytest.mark.parametrize(
    ("where", "version"),
    [
        ("colours", 2),
        ("colours/versions/1", 1),
        ("colours/versions/2", 2),
        ("colours/labels/live", 2),
        ("colours/labels/previous", 1),
    ],
)
def test_rows_of_numbers_are_answered_by_the_version_asked_for(rest: TestClient, where: str, version: int) -> None:
    """Numbers go to the model as they are; one output stands without its name."""
    instances = [build_image(colour, 16).tolist() for colour in COLOURS]
    reply = post(rest, {"instances": instances}, where)

    assert 200 == reply.status_code, reply.text
    assert {"predictions"} == reply.json().keys()
    assert np.abs(np.array(reply.json()["predictions"]) - expected(list(COLOURS), version)).max() < 1e-5
    assert ("colours", str(version)) == (reply.headers["x-model-name"], reply.headers["x-model-version"])


def test_version_that_is_loaded_again_costs_no_client_an_answer(
    store: ModelStore, tiny_models: dict[str, Path], start_modelserver: StartModelServer
) -> None:
    """What the gateway knows of its signatures does not make it answer before it is there."""
    server = start_modelserver(store)
    with ModelClient(server.address) as client, run_gateway(backend=server.address, models_dir=store.root) as gateway:
        instances = [build_image("red", 16).tolist()]

        def ask(where: str = "colours") -> tuple[int, str | None]:
            reply = post(gateway, {"instances": instances}, where)
            return reply.status_code, reply.headers.get("x-model-version")

        client.wait_for("colours", 1)
        wait_for_status(lambda: ask("colours/versions/1")[0] == 200)
        for version in (2, 3):
            assert version == publish_variant(store, tiny_models["plain"])
            client.wait_for("colours", version)
        client.wait_for("colours", 1, state=END)
        wait_for_status(lambda: ask() == (200, "3"))
        store.promote("colours", 1)
        answers = []
        wait_for_status(lambda: answers.append(ask()) or answers[-1][1] == "1")

    assert {200} == {status for status, _ in answers}


def wait_for_status(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("named", [False, True], ids=["plain", "named"])
@pytest.mark.parametrize("by_row", [False, True], ids=["columns", "rows"])
def test_encoded_images_are_prepared_by_the_contract(rest: TestClient, named: bool, by_row: bool) -> None:
    """A b64 object where the model takes pixels is an image of any size and format, in every format of request."""
    values = [b64(encode(colour, kind, size=60)) for colour, kind in zip(COLOURS, ("PNG", "BMP", "WEBP"), strict=True)]
    if by_row:
        document = {"instances": [{"images": value} for value in values] if named else values}
    else:
        document = {"inputs": {"images": values} if named else values}
    reply = post(rest, document)

    assert 200 == reply.status_code, reply.text
    probabilities = reply.json()["predictions" if by_row else "outputs"]
    assert np.abs(np.array(probabilities) - expected(list(COLOURS), 2)).max() < 0.01  # WebP loses a little


def test_images_and_numbers_may_be_mixed(rest: TestClient) -> None:
    """Each instance is one or the other."""
    reply = post(rest, {"instances": [b64(encode("red")), build_image("blue", 16).tolist()]})

    assert np.abs(np.array(reply.json()["predictions"]) - expected(["red", "blue"], 2)).max() < 1e-5


def test_other_signatures_have_named_inputs_and_outputs(rest: TestClient) -> None:
    """`explain` has two of each; in rows each instance and each prediction is an object."""
    rows = {"signature_name": "explain", "instances": [{"images": b64(encode("red")), "class_index": -1}]}
    columns = {"signature_name": "explain", "inputs": {"images": [b64(encode("red"))], "class_index": [-1]}}
    by_row, by_column = post(rest, rows).json(), post(rest, columns).json()

    assert {"probabilities", "saliency"} == by_row["predictions"][0].keys()
    assert by_row["predictions"][0]["saliency"] == by_column["outputs"]["saliency"][0]
    described = post(rest, {"signature_name": "describe", "instances": [0]}).json()
    assert "image-classification" == json.loads(described["predictions"][0])["task"]


def test_compressed_bodies_are_read(rest: TestClient) -> None:
    """As TensorFlow Serving reads them: nested lists of numbers shrink well."""
    body = json.dumps({"instances": [build_image("green", 16).tolist()]}).encode()
    reply = rest.post("/v1/models/colours:predict", content=gzip.compress(body), headers={"content-encoding": "gzip"})

    assert np.abs(np.array(reply.json()["predictions"]) - expected(["green"], 2)).max() < 1e-5


ERRORS = [
    pytest.param(b"", 400, "JSON Parse error: The document is empty", id="empty"),
    pytest.param(b"{", 400, "JSON Parse error: ", id="broken"),
    pytest.param(b"\xff\xfe\x00", 400, "JSON Parse error: ", id="not-text"),
    pytest.param(b"[" * 100_000, 400, "JSON Parse error: ", id="deep"),
    pytest.param(b"[1]", 400, "JSON Value: [1] Is not object", id="list"),
    pytest.param(b"{}", 400, "Missing 'inputs' or 'instances' key", id="neither"),
    pytest.param(b'{"instances": [1], "inputs": 1}', 400, "expecting only one of 'inputs' or 'instances'", id="both"),
    pytest.param(b'{"instances": 1}', 400, "Excepting 'instances' to be an list/array", id="no-list"),
    pytest.param(b'{"instances": []}', 400, "No values in 'instances' array", id="no-instances"),
    pytest.param(b'{"signature_name": 1, "inputs": 1}', 400, "must be a string value", id="signature-type"),
    pytest.param(
        b'{"signature_name": "x", "inputs": 1}', 400, 'Serving signature name: "x" not found in signature def', id="sig"
    ),
    pytest.param(
        b'{"instances": ["a"]}', 400, 'JSON Value: "a" Type: String is not of expected type: uint8', id="text"
    ),
    pytest.param(
        b'{"instances": [1.5]}', 400, "JSON Value: 1.5 Type: Number is not of expected type: uint8", id="float"
    ),
    pytest.param(b'{"instances": [NaN]}', 400, "JSON Value: nan Type: Number is not of expected", id="nan"),
    pytest.param(b'{"instances": [null]}', 400, "Type: Null is not of expected type: uint8", id="null"),
    pytest.param(b'{"instances": [[[[300, 0, 0]]]]}', 400, "JSON Value: 300 Type: Number", id="range"),
    pytest.param(b'{"instances": [[1, 2], [1]]}', 400, "Encountered list at unexpected size", id="ragged"),
    pytest.param(b'{"instances": [[[[1, 2, 3]]]]}', 400, "Expecting shape [-1,16,16,3] but got: [1,1,1,3]", id="shape"),
    pytest.param(b'{"instances": [{"b64": "*"}]}', 400, "Unable to base64 decode", id="base64"),
    pytest.param(b'{"instances": [{"other": 1}]}', 400, "must only have keys: images", id="unknown-input"),
    pytest.param(b'{"instances": [{"images": 1}, 2]}', 400, "Expecting object but got list at item 1", id="mix"),
    pytest.param(b'{"instances": [1, {"images": 1}]}', 400, "Expecting value/list but got object at item 1", id="mix2"),
    pytest.param(b'{"inputs": {"other": 1}}', 400, "Missing named input: images in 'inputs' object.", id="missing"),
    pytest.param(
        b'{"signature_name": "explain", "instances": [1]}', 400, "instances is a plain list", id="several-inputs"
    ),
    pytest.param(b'{"signature_name": "explain", "inputs": 1}', 400, "inputs is a plain value/list", id="several-in"),
    pytest.param(b'{"instances": [1' + b"0" * 5000 + b"]}", 400, "JSON Parse error", id="long-number"),
    pytest.param(b'{"instances": [1' + b"0" * 30 + b"]}", 400, "is not of expected type: uint8", id="big-number"),
    pytest.param(b'{"instances": ["\\ud800"]}', 400, "is not of expected type: uint8", id="surrogate"),
    pytest.param(b'{"signature_name": "\\ud800", "inputs": 1}', 400, "not found in signature def", id="surrogate-name"),
    pytest.param(b'{"instances": [' + b"[" * 80 + b"1" + b"]" * 80 + b"]}", 400, "unexpected size or level", id="axes"),
]


@pytest.mark.parametrize(("body", "status", "text"), ERRORS)
def test_errors_have_tensorflow_servings_body_and_words(rest: TestClient, body: bytes, status: int, text: str) -> None:
    """{"error": "..."}, and never a 500."""
    reply = rest.post("/v1/models/colours:predict", content=body)

    assert status == reply.status_code, reply.text
    assert {"error"} == reply.json().keys()
    assert text in reply.json()["error"]


@pytest.mark.parametrize(
    ("where", "status", "text"),
    [
        ("other", 404, "Servable not found for request: Latest(other)"),
        ("colours/versions/9", 404, "Servable not found for request: Specific(colours, 9)"),
        ("other/versions/9", 404, "Servable not found for request: Specific(other, 9)"),
        ("colours/labels/stable", 400, "Unrecognized servable version label: stable"),
        ("colours/versions/0", 400, "Failed to convert version: 0 to numeric."),
        ("colours/versions/99999999999999999999", 400, "Failed to convert version: 99999999999999999999 to numeric."),
        ("colours/versions/x", 400, "Malformed request: POST /v1/models/colours/versions/x:predict"),
        ("%F0%9F%90%8D", 404, "Servable not found for request: Latest("),
    ],
)
def test_what_is_not_there_has_tensorflow_servings_status(rest: TestClient, where: str, status: int, text: str) -> None:
    """Unknown names and versions are 404, unknown labels 400, as there."""
    reply = post(rest, {"instances": [0]}, where)

    assert (status, True) == (reply.status_code, text in reply.json()["error"]), reply.text


def test_images_that_cannot_be_read_have_the_status_of_predict(rest: TestClient) -> None:
    """400 for a broken image, 415 for a format that is not read, 413 for too many."""
    broken = post(rest, {"instances": [b64(encode("red")), b64(truncated_jpeg())]})
    other = post(rest, {"instances": [b64(b"%PDF-1.4")]})
    many = post(rest, {"instances": [b64(b"x")] * 65})

    assert [400, 415, 413] == [reply.status_code for reply in (broken, other, many)]
    assert all(isinstance(reply.json()["error"], str) for reply in (broken, other, many))


@pytest.mark.parametrize("where", ["", "/versions/1", "/labels/previous"])
def test_metadata_tells_the_signatures(rest: TestClient, where: str) -> None:
    """The form is TensorFlow Serving's: whole numbers of 64 bits are texts."""
    document = rest.get(f"/v1/models/colours{where}/metadata").json()

    version = "1" if where else "2"
    assert {"name": "colours", "signature_name": "", "version": version} == document["model_spec"]
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert "DT_UINT8" == signature["inputs"]["images"]["dtype"]
    assert ["-1", "16", "16", "3"] == [d["size"] for d in signature["inputs"]["images"]["tensor_shape"]["dim"]]
    assert 404 == rest.get("/v1/models/other/metadata").status_code


def spec(data_type: int, *shape: int) -> TensorSpec:
    return TensorSpec(data_type, shape)


@pytest.mark.parametrize(
    ("value", "data_type", "dtype"),
    [
        ([1, 2.5], types_pb2.DT_FLOAT, np.float32),
        ([1, 2], types_pb2.DT_FLOAT, np.float32),
        ([float("nan"), float("inf")], types_pb2.DT_FLOAT, np.float32),
        ([1, -2], types_pb2.DT_INT64, np.int64),
        ([2**63, 2**64 - 1], types_pb2.DT_UINT64, np.uint64),
        ([True, False], types_pb2.DT_BOOL, np.bool_),
        ([1e300, 1], types_pb2.DT_DOUBLE, np.float64),
    ],
    ids=str,
)
def test_numbers_take_the_signatures_type(value: list[Any], data_type: int, dtype: type) -> None:
    """Values that the type can hold come through unchanged."""
    array = build_array(value, spec(data_type, -1))

    assert dtype == array.dtype
    assert np.array_equal(np.array(value, dtype), array, equal_nan=dtype in (np.float32, np.float64))


@pytest.mark.parametrize(
    ("value", "data_type", "text"),
    [
        ([2**24 + 1], types_pb2.DT_FLOAT, "without loss of precision"),
        ([1e39], types_pb2.DT_FLOAT, "without loss of precision"),
        ([-1], types_pb2.DT_UINT32, "not of expected type: uint32"),
        ([2**63], types_pb2.DT_INT64, "not of expected type: int64"),
        ([1], types_pb2.DT_BOOL, "not of expected type: bool"),
        ([True, False], types_pb2.DT_INT32, "Type: True is not of expected type: int32"),
        ([1], types_pb2.DT_STRING, "not of expected type: string"),
        (["a", ["b"]], types_pb2.DT_STRING, "unexpected size"),
        ([["a"], "b"], types_pb2.DT_STRING, "incorrect level"),
        ([1], types_pb2.DT_COMPLEX64, "Conversion of JSON Value"),
        (1, types_pb2.DT_FLOAT, "Expecting shape [-1] but got: []"),
    ],
    ids=str,
)
def test_numbers_that_the_type_cannot_hold_are_refused(value: Any, data_type: int, text: str) -> None:
    """Nothing is wrapped or cut off silently."""
    with pytest.raises(InvalidArgumentError) as caught:
        build_array(value, spec(data_type, -1))
    assert text in str(caught.value)


def test_strings_are_texts_or_bytes() -> None:
    """A b64 object is bytes where the signature takes strings."""
    array = build_array([["a", {"b64": "AP8="}]], spec(types_pb2.DT_STRING, -1, 2))

    assert [[b"a", b"\x00\xff"]] == array.tolist()


def test_replies_have_float32s_digits_and_say_what_is_not_a_number() -> None:
    """Texts are texts where they can be, else base64; names that end in _bytes always are."""
    outputs = {
        "x": np.array([0.1, np.nan], np.float32),
        "y_bytes": np.array([b"a", b"b"], object),
        "z": np.array([b"a", b"\xff"], object),
    }
    text = dump_arrays(build_reply(outputs, by_row=True))

    assert (
        '{"predictions":[{"x":0.1,"y_bytes":{"b64":"YQ=="},"z":"a"},{"x":NaN,"y_bytes":{"b64":"Yg=="},"z":{"b64":"/w=="}}]}'
        == text
    )
    assert {"outputs": [1, 2]} == build_reply({"x": np.array([1, 2])}, by_row=False)
    with pytest.raises(InvalidArgumentError, match="batch"):
        build_reply({"x": np.zeros(2), "y": np.zeros(3)}, by_row=True)


def test_both_formats_give_the_same_inputs() -> None:
    """Rows are turned into columns."""
    rows = parse_request(b'{"instances": [{"a": 1, "b": [2]}, {"a": 3, "b": [4]}]}')
    columns = parse_request(b'{"inputs": {"a": [1, 3], "b": [[2], [4]]}}')

    assert {"a": [1, 3], "b": [[2], [4]]} == split_inputs(rows, ["a", "b"]) == split_inputs(columns, ["a", "b"])


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize("where", ["colours", "colours/versions/1", "colours/labels/live"])
def test_the_other_calls_of_tensorflow_serving_are_refused_in_words(rest: TestClient, where: str, verb: str) -> None:
    """They take records that no image model has a signature for; the answer names what to call instead."""
    reply = rest.post(f"/v1/models/{where}:{verb}", json={"examples": []})

    assert 400 == reply.status_code
    assert {"error": f"expected :predict, or /v1/predict for named classes. Received: :{verb}"} == reply.json()
