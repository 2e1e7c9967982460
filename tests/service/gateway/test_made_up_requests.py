"""Hypothesis makes up bodies, headers and parameters: each gets an answer, never a 500."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from contract.errors import ImageError
from contract.image import FORMATS, decode_image, read_header
from contract.model import InputSpec
from contract.tensors import types_pb2
from service.gateway.context.errors import GatewayError, InvalidArgumentError, TooManyImagesError
from service.gateway.http.content_negotiation import prefers
from service.gateway.protocols.open_inference import parse_infer
from service.gateway.protocols.tensor_json import TensorSpec, build_array
from service.gateway.protocols.tensorflow_rest import parse_request, split_inputs
from tests.contract.images import test_dicom
from tests.helpers.fixtures import FIXTURES
from tests.helpers.odd_images import picture, write

SETTINGS = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
WHOLE = {kind: write(picture(), kind) for kind in FORMATS if kind not in ("HEIC", "DICOM")}
WHOLE["HEIC"] = (FIXTURES / "drawing.heic").read_bytes()
WHOLE["DICOM"] = test_dicom.make(
    test_dicom.stored_values(12, signed=False), BitsStored=12, WindowCenter=9, WindowWidth=9
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=30,
)
SHAPES = st.lists(st.integers(-1, 3), max_size=3)
TENSORS = st.fixed_dictionaries(
    {
        "name": st.just("a") | st.text(max_size=3),
        "datatype": st.sampled_from(["UINT8", "FP32", "BYTES", "BOOL", "INT64"]) | JSON,
        "shape": SHAPES | st.lists(st.integers(0, 2**64 - 1), max_size=70) | JSON,
        "data": st.lists(JSON, max_size=6) | st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=3) | JSON,
    },
    optional={"parameters": JSON},
)
INFER_REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | JSON}, optional={"id": JSON, "parameters": JSON, "outputs": JSON}
)


def check(reply: Any) -> None:
    """An answer is a success or an error of the client's, in JSON, with the request's id."""
    assert reply.status_code == 200 or 400 <= reply.status_code < 500, (reply.status_code, reply.text)
    assert json.loads(reply.text)
    assert reply.headers["x-request-id"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return an image file of any format with bytes changed, cut out or put in."""
    data = bytearray(WHOLE[draw(st.sampled_from(FORMATS))])
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=8)):
        data[place] = value
    start = draw(st.integers(0, len(data)))
    return bytes(data[:start]) + draw(st.binary(max_size=8)) + bytes(data[start + draw(st.integers(0, 20)) :])


@SETTINGS
@given(data=damaged() | st.binary(max_size=200), fit=st.sampled_from(["stretch", "crop", "pad"]), grey=st.booleans())
def test_the_decoder_reads_or_refuses(data: bytes, fit: Any, grey: bool) -> None:
    """Whatever the bytes are, the result has the shape that was asked for, or there is a reason."""
    spec = InputSpec(9, 7, 1 if grey else 3, "grey" if grey else "rgb", fit=fit)
    try:
        read_header(data)
        pixels = decode_image(data, spec, max_pixels=10**6)
    except ImageError as err:
        assert str(err)
    else:
        assert (spec.shape, "uint8") == (pixels.shape, pixels.dtype)


@SETTINGS
@given(
    route=st.sampled_from(["/v1/predict", "/v1/explain", "/v1/embed"]),
    body=st.binary(max_size=300) | damaged(),
    kind=st.sampled_from(["image/png", "application/json", "multipart/form-data; boundary=x", "", "a/b; c", "text/*"]),
    accept=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30),
    parameters=st.dictionaries(
        st.sampled_from(["model", "version", "label", "top", "class", "x"]), st.text(max_size=12), max_size=3
    ),
)
def test_any_bytes_are_answered(
    shared_client: TestClient, route: str, body: bytes, kind: str, accept: str, parameters: dict[str, str]
) -> None:
    """Bodies that are not what their type says, and parameters of any value."""
    headers = {"content-type": kind, "accept": accept}
    check(shared_client.post(route, params=parameters, content=body, headers=headers))


@SETTINGS
@given(
    name=st.text(max_size=20),
    file=st.binary(max_size=50),
    filename=st.text(max_size=20),
    boundary=st.binary(max_size=4),
)
def test_any_form_is_answered(
    shared_client: TestClient, name: str, file: bytes, filename: str, boundary: bytes
) -> None:
    """Parts with names and contents of any kind, boundaries in the wrong place."""
    disposition = f'form-data; name="{name}"; filename="{filename}"'.encode("utf-8", "surrogatepass")
    body = b"--x\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + file + b"\r\n--x" + boundary + b"--\r\n"
    check(shared_client.post("/v1/predict", content=body, headers={"content-type": "multipart/form-data; boundary=x"}))


@SETTINGS
@given(
    document=JSON
    | INFER_REQUESTS
    | st.fixed_dictionaries({"images": JSON})
    | st.fixed_dictionaries({"instances": JSON})
)
def test_any_json_is_answered(shared_client: TestClient, document: Any) -> None:
    """JSON of any form, half surrogate pairs and NaN included, on every route that reads it."""
    body = json.dumps(document)
    for route in ("/v1/predict", "/v1/explain", "/v1/embed", "/v1/models/other:predict", "/v2/models/other/infer"):
        check(shared_client.post(route, content=body, headers={"content-type": "application/json"}))


@SETTINGS
@given(name=st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=20))
def test_any_name_is_answered(shared_client: TestClient, name: bytes) -> None:
    """Models, versions and labels of any name, percent-encoded as a client must."""
    path = quote_from_bytes(name, safe="")
    for where in (path, f"colours/versions/{path}", f"colours/labels/{path}", f"{path}/metadata"):
        check(shared_client.get(f"/v1/models/{where}"))
    for where in (f"{path}/ready", f"colours/versions/{path}/ready"):
        check(shared_client.get(f"/v2/models/{where}"))


@SETTINGS
@given(
    document=JSON | st.fixed_dictionaries({"instances": JSON}) | st.fixed_dictionaries({"inputs": JSON}),
    data_type=st.integers(0, 30),
    shape=st.none() | st.lists(st.integers(-1, 3), max_size=3).map(tuple),
)
def test_tensors_from_json_are_arrays_or_refused(document: Any, data_type: int, shape: tuple[int, ...] | None) -> None:
    """Any JSON value against any type and shape."""
    spec = TensorSpec(data_type, shape)
    try:
        values = split_inputs(parse_request(json.dumps(document).encode()), ["a"])
        array = build_array(values["a"], spec)
    except InvalidArgumentError as err:
        assert isinstance(err, GatewayError)
        json.dumps({"error": str(err)}).encode()
    else:
        assert shape is None or len(shape) == array.ndim


@SETTINGS
@given(
    document=INFER_REQUESTS,
    data_type=st.sampled_from([types_pb2.DT_UINT8, types_pb2.DT_FLOAT, types_pb2.DT_STRING, types_pb2.DT_HALF]),
    shape=st.none() | SHAPES.map(tuple),
)
def test_infer_requests_are_arrays_or_refused(document: Any, data_type: int, shape: tuple[int, ...] | None) -> None:
    """Of the type and shape that the request says, whatever its data are."""
    spec = TensorSpec(data_type, shape)
    try:
        request = parse_infer(json.dumps(document).encode())
        value = request.split({"a": spec}, ["b"])["a"]
        array = request.build(value, spec)
    except (InvalidArgumentError, TooManyImagesError) as err:
        json.dumps({"error": str(err)}).encode()
    else:
        assert list(array.shape) == document["inputs"][0]["shape"]


@SETTINGS
@given(accept=st.text(max_size=60))
def test_any_accept_header_is_weighed(accept: str) -> None:
    """It says yes or no."""
    assert prefers(accept, "image/png", "application/json") in (True, False)
