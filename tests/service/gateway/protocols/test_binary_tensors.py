"""Binary tensor data and classes of the Open Inference Protocol, byte by byte as their documents have them."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from starlette.testclient import TestClient

from contract.tensors import data_type_name, types_pb2
from service.gateway.context.errors import InvalidArgumentError
from service.gateway.protocols.classification import rank_classes
from service.gateway.protocols.open_inference import parse_infer
from service.gateway.protocols.tensor_binary import read_json_bytes
from service.gateway.protocols.tensor_json import TensorSpec
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.server_process import ServerProcess
from tests.helpers.tiny_model import VARIANTS, build_image, expected_probabilities
from tests.service.gateway.conftest import run_gateway

LABELS = VARIANTS["permuted"].labels  # version 2 is live
HEADER = "Inference-Header-Content-Length"
IMAGES = np.stack([build_image(colour, 16) for colour in COLOURS])


@pytest.fixture(name="client", scope="module")
def fixture_client(modelserver: ServerProcess) -> Iterator[TestClient]:
    """A gateway in front of the shared model server."""
    with run_gateway(backend=modelserver.address, models_dir=modelserver.store.root) as gateway:
        yield gateway


def pack(*elements: bytes) -> bytes:
    """Return BYTES: each element after its length, 4 bytes little-endian."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def tensor(name: str, datatype: str, shape: Sequence[int], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return an input's JSON and its binary data."""
    head = {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": len(data)}}
    return head, data


def build(*tensors: tuple[dict[str, Any], bytes], **other: Any) -> tuple[bytes, bytes]:
    """Return the JSON and the binary data of a request."""
    document = {"inputs": [head for head, _ in tensors], **other}
    return json.dumps(document).encode(), b"".join(data for _, data in tensors)


def send(client: TestClient, head: bytes, tail: bytes, where: str = "colours", **headers: str) -> Any:
    """Send a request with binary data."""
    sent = {HEADER: str(len(head)), "content-type": "application/octet-stream", **headers}
    return client.post(f"/v2/models/{where}/infer", content=head + tail, headers=sent)


def read(reply: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a reply's JSON and the binary data of each output."""
    assert 200 == reply.status_code, reply.text
    if HEADER not in reply.headers:
        assert "application/json" == reply.headers["content-type"]
        return reply.json(), {}
    assert "application/octet-stream" == reply.headers["content-type"]
    length = int(reply.headers[HEADER])
    document, rest = json.loads(reply.content[:length]), reply.content[length:]
    parts = {}
    for output in document["outputs"]:
        if size := output.get("parameters", {}).get("binary_data_size"):
            assert "data" not in output
            parts[output["name"]], rest = rest[:size], rest[size:]
    assert b"" == rest
    return document, parts


PIXELS = tensor("images", "UINT8", IMAGES.shape, IMAGES.tobytes())
FILES = tensor("images", "BYTES", [3], pack(*(encode(colour, "PNG", size=60) for colour in COLOURS)))


@pytest.mark.parametrize("sent", [PIXELS, FILES], ids=["pixels", "files"])
@pytest.mark.parametrize("outputs", ["json", "all", "named", "named-json"])
def test_binary_in_and_out(client: TestClient, sent: tuple[dict[str, Any], bytes], outputs: str) -> None:
    """Of numbers and of image files; outputs as the request says, for all of them or by name."""
    named = {"name": "probabilities", "parameters": {"binary_data": outputs == "named"}}
    wanted: dict[str, Any] = {"outputs": [named]} if outputs.startswith("named") else {}
    if outputs in ("all", "named-json"):
        wanted["parameters"] = {"binary_data_output": True}
    document, parts = read(send(client, *build(sent, id="7", **wanted)))

    (output,) = document["outputs"]
    assert ("7", "2", "probabilities", "FP32", [3, 3]) == (
        document["id"], document["model_version"], output["name"], output["datatype"], output["shape"]
    )  # fmt: skip
    assert (outputs in ("all", "named")) == ("probabilities" in parts)
    values = np.frombuffer(parts["probabilities"], "<f4") if parts else np.array(output["data"])
    assert np.abs(values.reshape(3, 3) - expected_probabilities(IMAGES, LABELS)).max() < 1e-5


def test_json_and_binary_inputs_side_by_side(client: TestClient) -> None:
    """Binary data follow in the order of the JSON, whichever order the signature has; two outputs, one binary."""
    index = tensor("class_index", "INT32", [3], struct.pack("<3i", -1, -1, -1))
    told = ({"name": "class_index", "datatype": "INT32", "shape": [3], "data": [-1, -1, -1]}, b"")
    other: dict[str, Any] = {
        "parameters": {"signature_name": "explain", "binary_data_output": True},
        "outputs": [{"name": "saliency"}, {"name": "probabilities", "parameters": {"binary_data": False}}],
    }
    answers = [
        read(send(client, *build(*inputs, **other))) for inputs in ((PIXELS, index), (index, PIXELS), (PIXELS, told))
    ]

    assert [answers[0][0]["outputs"]] * 3 == [document["outputs"] for document, _ in answers]
    assert [answers[0][1]] * 3 == [parts for _, parts in answers]
    saliency, probabilities = answers[0][0]["outputs"]
    assert ([3, 4, 4], {"binary_data_size": 192}) == (saliency["shape"], saliency["parameters"])
    assert ([3, 3], 9) == (probabilities["shape"], len(probabilities["data"]))


def test_texts_come_as_binary_too(client: TestClient) -> None:
    """The contract, as BYTES."""
    row = tensor("row", "INT32", [2], struct.pack("<2i", 0, 0))
    parameters = {"signature_name": "describe", "binary_data_output": True}
    document, parts = read(send(client, *build(row, parameters=parameters)))
    texts = read(send(client, *build(row, parameters={"signature_name": "describe"})))[0]["outputs"][0]["data"]

    assert ("BYTES", [2]) == (document["outputs"][0]["datatype"], document["outputs"][0]["shape"])
    assert pack(*(text.encode() for text in texts)) == parts["contract"]


def test_the_whole_body_may_be_json(client: TestClient) -> None:
    """The header may say so; no header needs to."""
    plain = json.dumps(
        {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 16, 16, 3], "data": [9] * 768}]}
    )

    assert 200 == send(client, plain.encode(), b"").status_code
    assert 200 == client.post("/v2/models/colours/infer", content=plain).status_code


def test_bodies_in_pieces_and_compressed(client: TestClient) -> None:
    """The header counts bytes of the JSON as it is, not as it was compressed."""
    head, tail = build(PIXELS)
    whole = head + tail
    headers = {HEADER: str(len(head))}
    expected = send(client, head, tail).json()["outputs"]
    bodies: list[dict[str, Any]] = [
        {"content": (whole[i : i + 1000] for i in range(0, len(whole), 1000)), "headers": headers},
        {"content": (part for part in (head[:5], head[5:], tail)), "headers": headers},
        {"content": gzip.compress(whole), "headers": {**headers, "content-encoding": "gzip"}},
    ]

    for body in bodies:
        reply = client.post("/v2/models/colours/infer", **body)
        assert (200, expected) == (reply.status_code, reply.json()["outputs"])


def test_large_tensors_need_no_json(client: TestClient) -> None:
    """A thousand images, as binary in both directions."""
    images = np.concatenate([IMAGES] * 342)[:1024]
    _, parts = read(
        send(
            client,
            *build(tensor("images", "UINT8", images.shape, images.tobytes()), parameters={"binary_data_output": True}),
        )
    )
    values = np.frombuffer(parts["probabilities"], "<f4").reshape(1024, 3)

    assert np.abs(values - expected_probabilities(images, LABELS)).max() < 1e-5


ONE = IMAGES[:1].tobytes()
SHAPE = [1, 16, 16, 3]


def images(datatype: str, shape: Sequence[int], content: bytes, **other: Any) -> tuple[bytes, bytes]:
    """Return a request with one input, some of whose fields may be others than they should be."""
    head, _ = tensor("images", datatype, shape, content)
    return build(({**head, **other}, content))


def sized(size: Any) -> tuple[bytes, bytes]:
    """Return a request of one image that says another size."""
    return images("UINT8", SHAPE, ONE, parameters={"binary_data_size": size})


WRONG = {
    "short": (images("UINT8", SHAPE, ONE[:-1]), "is 768 bytes. Received: binary_data_size 767"),
    "long": (images("UINT8", SHAPE, ONE + b"a"), "is 768 bytes. Received: binary_data_size 769"),
    "batch": (images("UINT8", [2, 16, 16, 3], ONE), "is 1536 bytes"),
    "shape": (images("UINT8", [768], ONE), "Expecting shape"),
    "huge-shape": (images("UINT8", [2**60, 16, 16, 3], ONE), "bytes. Received"),
    "no-element": (images("UINT8", [0, 16, 16, 3], b""), "at least one element"),
    "datatype": (images("FP32", SHAPE, ONE), "expected datatype UINT8"),
    "data-too": (images("UINT8", SHAPE, ONE, data=[1]), "Received: both"),
    "negative": (sized(-1), "a number from 0 on. Received: -1"),
    "huge": (sized(2**63), "a number from 0 on"),
    "float": (sized(1.5), "a number from 0 on"),
    "bool": (sized(True), "a number from 0 on"),
    "text": (sized("768"), "a number from 0 on"),
    "more": (sized(769), "binary_data_size is 769; 768 bytes are left of the 768 after the JSON"),
    "less": (sized(767), "768 bytes follow the JSON; expected 767"),
    "no-size": (images("UINT8", SHAPE, ONE, parameters={}), "Received: neither"),
    "left-over": ((build(PIXELS)[0], PIXELS[1] + b"x"), "2305 bytes follow the JSON; expected 2304"),
    "twice": (build(PIXELS, PIXELS), "each once"),
    "no-length": (images("BYTES", [1], b"abc"), "ends at byte 4; binary_data_size is 3"),
    "half-element": (images("BYTES", [1], pack(b"abc")[:-1]), "ends at byte 7"),
    "huge-element": (images("BYTES", [1], b"\xff" * 8), "ends at byte 4294967299"),
    "one-of-two": (images("BYTES", [2], pack(b"a")), "expected 2 elements of BYTES"),
    "two-of-one": (images("BYTES", [1], pack(b"a", b"b")), "Received: more"),
    "rank": (images("BYTES", [1, 1], pack(b"a")), "of shape [number of image files]"),
    "no-file": (images("BYTES", [0], b""), "at least one element"),
}


@pytest.mark.parametrize(("request_", "text"), WRONG.values(), ids=WRONG)
def test_lengths_are_held_against_shape_and_type(client: TestClient, request_: tuple[bytes, bytes], text: str) -> None:
    """400 in words."""
    reply = send(client, *request_)

    assert 400 == reply.status_code, reply.text
    assert text in reply.json()["error"]


def test_images_have_the_statuses_of_predict(client: TestClient) -> None:
    """415 for what is no image, 400 for an empty one, 413 for too many."""
    contents = ([b"%PDF-1.4"], [b""], [b"x"] * 65, [b""] * 4097)
    replies = [send(client, *build(tensor("images", "BYTES", [len(files)], pack(*files)))) for files in contents]

    assert [415, 400, 413, 413] == [reply.status_code for reply in replies]
    assert all(isinstance(reply.json()["error"], str) for reply in replies)


HEADERS = ["-1", "0", "+5", "1.5", "abc", "", " ", "0x10", "1e3", "5, 5", "9" * 19, "9" * 5000, "99999999", "1", "²"]


@pytest.mark.parametrize("value", HEADERS)
def test_header_that_is_no_length_of_the_json(client: TestClient, value: str) -> None:
    """400 in words."""
    head, tail = build(PIXELS)
    sent = [(HEADER.encode(), value.encode())]
    reply = client.post("/v2/models/colours/infer", content=head + tail, headers=sent)

    assert 400 == reply.status_code
    assert "Inference-Header-Content-Length" in reply.json()["error"] or "JSON Parse error" in reply.json()["error"]


def test_header_twice(client: TestClient) -> None:
    """400, even if both say the same."""
    head, tail = build(PIXELS)
    sent = [(HEADER.encode(), str(len(head)).encode())] * 2
    reply = client.post("/v2/models/colours/infer", content=head + tail, headers=sent)

    assert (400, True) == (reply.status_code, "expected one header. Received: 2" in reply.json()["error"])


@pytest.mark.parametrize("where", ["versions/1", "versions/2"])
def test_classes_have_the_labels_of_the_version(client: TestClient, where: str) -> None:
    """`value:index:label`, best first, a row for each image; as many as asked for, or all."""
    labels = VARIANTS["plain" if where.endswith("1") else "permuted"].labels
    for count, expected_count in ((1, 1), (2, 2), (3, 3), (50, 3)):
        for binary in (False, True):
            parameters = {"classification": count, "binary_data": binary}
            request = build(PIXELS, outputs=[{"name": "probabilities", "parameters": parameters}])
            document, parts = read(send(client, *request, where=f"colours/{where}"))
            (output,) = document["outputs"]
            assert ("BYTES", [3, expected_count]) == (output["datatype"], output["shape"])
            texts = output.get("data") or [text.decode() for text in unpack(parts["probabilities"])]
            rows = np.array([text.split(":") for text in texts]).reshape(3, expected_count, 3)
            probabilities = expected_probabilities(IMAGES, labels)
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
            assert [COLOURS[i].capitalize() for i in range(3)] == rows[:, 0, 2].tolist()
            assert order[:, 0].tolist() == rows[:, 0, 1].astype(int).tolist()
            near = np.take_along_axis(probabilities, rows[..., 1].astype(int), axis=1)
            assert np.abs(rows[..., 0].astype(float) - near).max() < 1e-5
            assert [[labels[int(i)].capitalize() for i in row] for row in rows[..., 1]] == rows[..., 2].tolist()


def unpack(data: bytes) -> list[bytes]:
    """Return the elements of BYTES."""
    elements = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        elements.append(data[4 : 4 + size])
        data = data[4 + size :]
    return elements


def test_classes_of_other_outputs_and_of_none(client: TestClient) -> None:
    """Without labels: the map's cells; a count of 0 asks for the numbers."""
    inputs = (PIXELS, tensor("class_index", "INT32", [3], struct.pack("<3i", -1, -1, -1)))
    outputs = [
        {"name": "saliency", "parameters": {"classification": 2}},
        {"name": "probabilities", "parameters": {"classification": 0}},
    ]
    document, _ = read(send(client, *build(*inputs, parameters={"signature_name": "explain"}, outputs=outputs)))
    saliency, probabilities = document["outputs"]

    assert ([3, 2], {2}) == (saliency["shape"], {len(text.split(":")) for text in saliency["data"]})
    assert ("FP32", 9) == (probabilities["datatype"], len(probabilities["data"]))
    row = tensor("row", "INT32", [1], struct.pack("<i", 0))
    texts = [{"name": "contract", "parameters": {"classification": 1}}]
    refused = send(client, *build(row, parameters={"signature_name": "describe"}, outputs=texts))
    assert (400, "outputs: 'contract' has no numbers, which classification ranks") == (
        refused.status_code, refused.json()["error"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("array", "count", "labels", "expected"),
    [
        (np.array([1.1, 3.3, 0.5, 2.4], np.float32), 2, (), ["3.3:1", "2.4:3"]),
        (np.array([1, 5, 10, 4]), 2, ("a", "b", "apple", "d"), ["10:2:apple", "5:1:b"]),
        (np.array([[1, 2], [4, 3]], np.uint8), 1, ("a", "b"), [["2:1:b"], ["4:0:a"]]),
        (np.array([[7, 7, 7]], np.int8), 3, (), [["7:0", "7:1", "7:2"]]),
        (np.array([[np.nan, -np.inf, 1, np.inf]]), 4, (), [["inf:3", "1.0:2", "nan:0", "-inf:1"]]),
        (np.array([[[1, 2], [3, 4]]]), 3, ("a", "b"), [["4:3", "3:2", "2:1"]]),
        (np.array(5), 2, ("a",), ["5:0:a"]),
        (np.array([[1, 0]], np.float16), 1, (), [["1.0:0"]]),
        (np.zeros((0, 3)), 2, (), []),
        (np.zeros((2, 0)), 2, (), [[], []]),
    ],
    ids=range(10),
)
def test_ranking(array: NDArray[Any], count: int, labels: Sequence[str], expected: list[Any]) -> None:
    """By the document's example; ties by index, NaN among the last."""
    ranked = rank_classes("x", array, count, labels=labels)

    assert expected == np.array([text.decode() for text in ranked.reshape(-1)], object).reshape(ranked.shape).tolist()


@pytest.mark.parametrize("array", [np.array([True]), np.array([b"a"], object)], ids=["bool", "text"])
def test_ranking_needs_numbers(array: NDArray[Any]) -> None:
    """BOOL and BYTES have no order that anyone means."""
    with pytest.raises(InvalidArgumentError, match="has no numbers"):
        rank_classes("x", array, 1, labels=())


TYPES = {
    "BOOL": (types_pb2.DT_BOOL, "?"),
    "UINT8": (types_pb2.DT_UINT8, "B"),
    "UINT16": (types_pb2.DT_UINT16, "H"),
    "UINT32": (types_pb2.DT_UINT32, "I"),
    "UINT64": (types_pb2.DT_UINT64, "Q"),
    "INT8": (types_pb2.DT_INT8, "b"),
    "INT16": (types_pb2.DT_INT16, "h"),
    "INT32": (types_pb2.DT_INT32, "i"),
    "INT64": (types_pb2.DT_INT64, "q"),
    "FP16": (types_pb2.DT_HALF, "e"),
    "FP32": (types_pb2.DT_FLOAT, "f"),
    "FP64": (types_pb2.DT_DOUBLE, "d"),
}


@pytest.mark.parametrize("datatype", TYPES)
def test_every_datatype_both_ways(datatype: str) -> None:
    """Little-endian, row by row; what an input holds comes back as an output's bytes."""
    number, code = TYPES[datatype]
    values = [True, False, True, True, False, True] if datatype == "BOOL" else [0, 1, 2, 3, 100, 127]
    data = struct.pack(f"<6{code}", *values)
    head, tail = build(tensor("a", datatype, [2, 3], data), parameters={"binary_data_output": True})
    request = parse_infer(head + tail, json_bytes=len(head))
    spec = TensorSpec(number, (-1, 3))
    array = request.build(request.split({"a": spec}, [])["a"], spec)
    reply = request.dump("m", 1, {"a": array}, labels=(), request_id="7")
    length = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.content[:length])["outputs"]

    assert [values[:3], values[3:]] == array.tolist()
    assert (datatype, [2, 3], len(data)) == (
        output["datatype"],
        output["shape"],
        output["parameters"]["binary_data_size"],
    )
    assert data == reply.content[length:]


@pytest.mark.parametrize(("datatype", "data"), [("BF16", b"\0\0"), ("BOOL", b"\2")])
def test_types_and_values_that_are_not_taken(datatype: str, data: bytes) -> None:
    """400 in words."""
    number = {"BF16": types_pb2.DT_BFLOAT16, "BOOL": types_pb2.DT_BOOL}[datatype]
    head, tail = build(tensor("a", datatype, [1], data))
    request = parse_infer(head + tail, json_bytes=len(head))
    spec = TensorSpec(number, None)
    with pytest.raises(InvalidArgumentError, match=f'input "a": .*({data_type_name(number)}|BOOL)'):
        request.build(request.split({"a": spec}, [])["a"], spec)


def test_texts_of_a_tensor_are_bounded() -> None:
    """Before any of them is made."""
    head, tail = build(tensor("a", "BYTES", [2**20 + 1], b""))
    request = parse_infer(head + tail, json_bytes=len(head))
    spec = TensorSpec(types_pb2.DT_STRING, None)
    with pytest.raises(InvalidArgumentError, match="1048577 elements of BYTES; the limit of a tensor is 1048576"):
        request.build(request.split({"a": spec}, [])["a"], spec)


def test_binary_texts_are_inputs_where_a_model_takes_texts() -> None:
    """Bytes of any kind."""
    head, tail = build(tensor("a", "BYTES", [1, 2], pack(b"\xff\0", b"")))
    request = parse_infer(head + tail, json_bytes=len(head))
    spec = TensorSpec(types_pb2.DT_STRING, (-1, 2))

    assert [[b"\xff\0", b""]] == request.build(request.split({"a": spec}, [])["a"], spec).tolist()


def test_numbers_are_not_copied() -> None:
    """An input's array is the body's own memory."""
    head, tail = build(tensor("a", "FP32", [256, 1024], bytes(1 << 20)))
    body = head + tail
    request = parse_infer(body, json_bytes=len(head))
    spec = TensorSpec(types_pb2.DT_FLOAT, None)
    array = request.build(request.split({"a": spec}, [])["a"], spec)

    assert np.shares_memory(array, np.frombuffer(body, np.uint8))


def test_header_is_read_as_bytes() -> None:
    """Absent, or a number with leading zeros and spaces around it."""
    assert read_json_bytes([(b"x", b"1")]) is None
    assert 12 == read_json_bytes([(HEADER.lower().encode(), b" 0012 ")])


DATATYPES = st.sampled_from([*TYPES, "BYTES", "BF16", "x"])
SHAPES = st.lists(st.one_of(st.integers(0, 20), st.sampled_from([2**31, 2**63, 2**64 - 1])), max_size=5)
TAILS = st.one_of(
    st.binary(max_size=64), st.lists(st.binary(max_size=9), max_size=5).map(lambda items: pack(*items)), st.just(ONE)
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_made_up_requests_are_answered_or_refused(client: TestClient, data: st.DataObject) -> None:
    """Any split of head and body, any type, shape and size: 200 or a text with 4xx, never a 5xx."""
    head_of_tensor, tail = PIXELS if data.draw(st.booleans()) else tensor(
        data.draw(st.sampled_from(["images", "x"])), data.draw(DATATYPES), data.draw(SHAPES), data.draw(TAILS)
    )  # fmt: skip
    if data.draw(st.booleans()):
        size = data.draw(st.integers(-2, len(tail) + 2))
        head_of_tensor = {**head_of_tensor, "parameters": {"binary_data_size": size}}
    parameters = data.draw(
        st.fixed_dictionaries({}, optional={"binary_data": st.booleans(), "classification": st.integers(-1, 5)})
    )
    head, tail = build((head_of_tensor, tail), outputs=[{"name": "probabilities", "parameters": parameters}])
    length = data.draw(st.one_of(st.just(len(head)), st.integers(-1, len(head) + len(tail) + 1)))
    body = head + tail
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body)))]
    reply = client.post("/v2/models/colours/infer", content=body, headers={HEADER: str(length)})

    if reply.status_code == 200:
        read(reply)
    else:
        assert 400 <= reply.status_code < 500, (reply.status_code, reply.text, body)
        assert isinstance(reply.json()["error"], str)
