"""TensorFlow Serving's REST API in front of models like its own, asked as its tests ask."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import pytest
from google.protobuf import json_format

from contract.tensors import get_model_status_pb2
from tests.helpers.half_plus import VERSION, build_example

EXAMPLE = {"b64": base64.b64encode(build_example(2.0)).decode()}


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("half_plus_two", {"instances": [[2.0], [3.0], [4.0]]}, {"predictions": [[3.0], [3.5], [4.0]]}),
        ("half_plus_two", {"inputs": {"x": [[2.0], [3.0]]}}, {"outputs": [[3.0], [3.5]]}),
        ("half_plus_two", {"instances": [{"x": [2.0]}, {"x": [3]}]}, {"predictions": [[3.0], [3.5]]}),
        ("half_plus_three", {"instances": [2.0, 3.0, 4.0]}, {"predictions": [4.0, 4.5, 5.0]}),
        ("half_plus_three", {"inputs": [2.0, 3.0, 4.0]}, {"outputs": [4.0, 4.5, 5.0]}),
        ("half_plus_three", {"inputs": 2.0}, {"outputs": 4.0}),
        ("half_plus_three", {"instances": [[[2.0]], [[4.0]]]}, {"predictions": [[[4.0]], [[5.0]]]}),
        ("functions", {"signature_name": "scalar", "inputs": {"x": 2}}, {"outputs": 3.0}),
        ("functions", {"signature_name": "constant", "inputs": [1.0]}, {"outputs": 2.0}),
        (
            "functions",
            {"signature_name": "mean", "inputs": [1.0, 3.0]},
            {"outputs": {"mean": 2.0, "y": [1.0, 3.0]}},
        ),
        (
            "functions",
            {"signature_name": "shout", "instances": ["eyes", {"b64": "YWI="}]},
            {"predictions": [{"size": 4, "text": "EYES"}, {"size": 2, "text": "AB"}]},
        ),
        ("half_plus_two", {"signature_name": "regress_x_to_y", "instances": [EXAMPLE]}, {"predictions": [[3.0]]}),
        (
            "half_plus_three",
            {"signature_name": "classify_x_to_y", "inputs": {"inputs": [EXAMPLE, EXAMPLE]}},
            {"outputs": [[4.0], [4.0]]},
        ),
    ],
)
@pytest.mark.parametrize("where", ["", f"/versions/{VERSION}"], ids=["newest", "version"])
def test_rows_columns_scalars_and_base64(
    rest: httpx2.Client, model: str, where: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Predict answers in the format of the request, with the ranks of the model's outputs."""
    reply = rest.post(f"/v1/models/{model}{where}:predict", json=body)
    assert (reply.status_code, reply.json()) == (200, expected)


@pytest.mark.parametrize("where", ["", f"/versions/{VERSION}"], ids=["all", "version"])
def test_status(rest: httpx2.Client, where: str) -> None:
    """The document that TensorFlow Serving's own test compares, also for protobuf's strict parser."""
    text = rest.get(f"/v1/models/half_plus_two{where}").text
    ok = {"version": str(VERSION), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert json.loads(text) == {"model_version_status": [ok]}
    (entry,) = json_format.Parse(text, get_model_status_pb2.GetModelStatusResponse()).model_version_status
    assert (entry.version, entry.state) == (VERSION, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


def test_metadata(rest: httpx2.Client) -> None:
    """Metadata has every field of a SignatureDef; a shape that the signature does not have is absent."""
    document = rest.get("/v1/models/half_plus_two/metadata").json()
    assert document["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": str(VERSION)}
    sizes = [{"size": "-1", "name": ""}, {"size": "1", "name": ""}]
    shape = {"dim": sizes, "unknown_rank": False}
    assert document["metadata"]["signature_def"]["signature_def"]["serving_default"] == {
        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "x:0"}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "y:0"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    without = rest.get("/v1/models/half_plus_three/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert without["serving_default"]["inputs"]["x"] == {"dtype": "DT_FLOAT", "name": "x:0"}


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize("where", ["", f"/versions/{VERSION}", "/labels/live"])
def test_classify_and_regress_name_predict(rest: httpx2.Client, verb: str, where: str) -> None:
    """Routes that are not served answer so, and name the route to call."""
    body = {"signature_name": f"{verb}_x_to_y", "examples": [{"x": 2.0}]}
    reply = rest.post(f"/v1/models/half_plus_two{where}:{verb}", json=body)
    assert reply.status_code == 400
    assert reply.json() == {"error": f"expected :predict, or /v1/predict for named classes. Received: :{verb}"}


def test_a_shape_of_another_rank_is_refused_by_name(rest: httpx2.Client) -> None:
    """The gateway compares shapes with the signature; TensorFlow Serving's REST leaves them to the graph."""
    reply = rest.post("/v1/models/half_plus_two:predict", json={"instances": [2.0, 3.0, 4.0]})
    assert (reply.status_code, reply.json()) == (400, {"error": "Expecting shape [-1,1] but got: [3]"})
