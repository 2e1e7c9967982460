"""One table of requests of the Open Inference Protocol and their replies; docs/conformance.md is generated from it.

The gateway under test serves the tiny model `colours`, version 1 plain and version 2 (live) permuted.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service import VERSION
from tests.helpers.pictures import encode
from tests.helpers.tiny_model import build_image

SECTION = "open-inference"
_HEADER = "Inference-Header-Content-Length"
_PIXELS = build_image("red", 16).tobytes()
_FILE = encode("red", "PNG", size=40)
_SHAPE = [1, 16, 16, 3]
_INPUT: Mapping[str, Any] = {"name": "images", "datatype": "UINT8", "shape": _SHAPE}
_JSON: Mapping[str, Any] = {**_INPUT, "data": list(_PIXELS)}
_METADATA = {
    "name": "colours",
    "versions": ["1", "2"],
    "platform": "tensorflow_savedmodel",
    "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 3]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
}
_READY = {"name": "colours", "ready": True}
_FILE_INPUT = {**_INPUT, "datatype": "BYTES", "shape": [1]}
_OUTPUT = {"name": "probabilities", "datatype": "FP32", "shape": [1, 3]}
INFER = "/v2/models/colours/infer"


@dataclass(frozen=True)
class Case:
    """A request and its reply.

    Attributes:
        area: part of the protocol.
        what: the request in words, for the page.
        path: of the request.
        method: of the request.
        body: its bytes.
        headers: of the request.
        status: of the reply.
        reply: fields that the reply's JSON has; of an error a part of its text.
        binary: bytes of binary data after the reply's JSON.
        answer: the reply in words, for the page.
        note: how this goes beyond the protocol, or differs from other servers; empty if it does not.
    """

    area: str
    what: str
    path: str
    answer: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    reply: Mapping[str, Any] | str = ""
    binary: int = 0
    note: str = ""


def _infer(area: str, what: str, answer: str, *, path: str = INFER, tail: bytes | None = None, **details: Any) -> Case:
    """Return a case of POST .../infer; the document is one image as JSON unless `document` says otherwise."""
    document = details.pop("document", None) or {"inputs": [_JSON], **details.pop("more", {})}
    body = json.dumps(document).encode()
    headers = details.pop("headers", {})
    if tail is not None:
        headers = {_HEADER: str(len(body)), **headers}
    return Case(area, what, path, answer, method="POST", body=body + (tail or b""), headers=headers, **details)


def _binary_input(**other: Any) -> dict[str, Any]:
    return {**_INPUT, "parameters": {"binary_data_size": len(_PIXELS)}, **other}


def _wanted(**parameters: Any) -> dict[str, Any]:
    return {"outputs": [{"name": "probabilities", "parameters": parameters}]}


_CLASSES = {"name": "probabilities", "datatype": "BYTES"}

CASES: Sequence[Case] = (
    Case("server", "`GET /v2/health/live`", "/v2/health/live", "`live`", reply={"live": True}),
    Case("server", "`GET /v2/health/ready`", "/v2/health/ready", "`ready`", reply={"ready": True}),
    Case(
        "server",
        "`GET /v2`",
        "/v2",
        "`name`, `version`, `extensions`: `binary_tensor_data`, `classification`",
        reply={"name": "fovea", "version": VERSION, "extensions": ["binary_tensor_data", "classification"]},
    ),
    Case("model", "`GET /v2/models/M`", "/v2/models/colours", "metadata of the live version", reply=_METADATA),
    Case("model", "`.../versions/V`", "/v2/models/colours/versions/1", "metadata of version V", reply=_METADATA),
    Case("model", "`.../ready`", "/v2/models/colours/ready", "`name`, `ready`", reply=_READY),
    Case(
        "model",
        "`.../versions/V/ready`",
        "/v2/models/colours/versions/1/ready",
        "`name`, `ready`",
        reply=_READY,
    ),
    Case("model", "a model that is not served", "/v2/models/none", "a text", status=404, reply="no model 'none'"),
    Case(
        "model",
        "a version that is not served",
        "/v2/models/colours/versions/9/ready",
        "a text",
        status=404,
        reply="colours has no version 9",
    ),
    _infer(
        "infer",
        "`data` flat",
        "`model_name`, `model_version`, `outputs` with flat `data`",
        reply={"model_name": "colours", "model_version": "2", "outputs": [_OUTPUT]},
    ),
    _infer(
        "infer",
        "`data` in lists of lists",
        "the same",
        document={"inputs": [{**_INPUT, "data": [build_image("red", 16).tolist()]}]},
        reply={"outputs": [_OUTPUT]},
    ),
    _infer(
        "infer",
        "`.../versions/V/infer`",
        "`model_version` V",
        path="/v2/models/colours/versions/1/infer",
        reply={"model_version": "1"},
    ),
    _infer("infer", "`id`", "the same `id`", more={"id": "42"}, reply={"id": "42"}),
    _infer(
        "infer",
        "no `id`",
        "the request's id as `id`",
        headers={"X-Request-ID": "a"},
        reply={"id": "a"},
        note="other servers leave it out or empty; here it stands in the log too",
    ),
    _infer("infer", "`outputs` by name", "these outputs", more=_wanted(), reply={"outputs": [_OUTPUT]}),
    _infer(
        "infer",
        "an output that does not exist",
        "a text",
        more={"outputs": [{"name": "x"}]},
        status=400,
        reply='outputs: expected probabilities. Received: "x"',
    ),
    _infer(
        "infer",
        "`parameters` of other servers",
        "ignored, as the protocol leaves them to each server",
        document={"inputs": [{**_JSON, "parameters": {"content_type": "np"}}], "parameters": {"priority": 1, "x": "y"}},
        reply={"outputs": [_OUTPUT]},
    ),
    _infer(
        "infer",
        "`parameters.signature_name`",
        "that signature of the model",
        document={
            "parameters": {"signature_name": "describe"},
            "inputs": [{"name": "row", "datatype": "INT32", "shape": [1], "data": [0]}],
        },
        reply={"outputs": [{"name": "contract", "datatype": "BYTES", "shape": [1]}]},
        note="a SavedModel has several signatures; `serving_default` without the parameter",
    ),
    _infer(
        "infer",
        "`BYTES` where the model takes pixels, base64",
        "the image file, prepared by the model's contract",
        document={"inputs": [{**_FILE_INPUT, "data": [base64.b64encode(_FILE).decode()]}]},
        reply={"outputs": [_OUTPUT]},
        note="other servers take pixels alone",
    ),
    _infer(
        "infer",
        "`data` of another shape than `shape`",
        "a text",
        document={"inputs": [{**_JSON, "data": [1, 2]}]},
        status=400,
        reply="expected data of shape",
    ),
    _infer(
        "binary_tensor_data",
        "`binary_data_size` of an input",
        "bytes after the JSON are the tensor",
        document={"inputs": [_binary_input()]},
        tail=_PIXELS,
        reply={"outputs": [_OUTPUT]},
    ),
    _infer(
        "binary_tensor_data",
        "`binary_data_output: true`",
        "every output as bytes after the JSON",
        more={"parameters": {"binary_data_output": True}},
        reply={"outputs": [{**_OUTPUT, "parameters": {"binary_data_size": 12}}]},
        binary=12,
    ),
    _infer(
        "binary_tensor_data",
        "`binary_data` of an output",
        "that output as bytes",
        more=_wanted(binary_data=True),
        reply={"outputs": [{**_OUTPUT, "parameters": {"binary_data_size": 12}}]},
        binary=12,
    ),
    _infer(
        "binary_tensor_data",
        "`binary_data: false` beside `binary_data_output: true`",
        "JSON",
        more={**_wanted(binary_data=False), "parameters": {"binary_data_output": True}},
        reply={"outputs": [_OUTPUT]},
    ),
    _infer(
        "binary_tensor_data",
        "`BYTES` where the model takes pixels, binary",
        "the image file as it is, after 4 bytes of length",
        document={"inputs": [{**_FILE_INPUT, "parameters": {"binary_data_size": 4 + len(_FILE)}}]},
        tail=struct.pack("<I", len(_FILE)) + _FILE,
        reply={"outputs": [_OUTPUT]},
        note="other servers take pixels alone",
    ),
    _infer(
        "binary_tensor_data",
        "another size than shape and datatype say",
        "a text with both",
        document={"inputs": [_binary_input(shape=[2, 16, 16, 3])]},
        tail=_PIXELS,
        status=400,
        reply="shape [2,16,16,3] of uint8 is 1536 bytes. Received: binary_data_size 768",
    ),
    _infer(
        "binary_tensor_data",
        f"`{_HEADER}` beyond the body",
        "a text",
        headers={_HEADER: "99999"},
        status=400,
        reply="Inference-Header-Content-Length is 99999; the body has",
    ),
    _infer(
        "binary_tensor_data",
        f"`{_HEADER}: 0`, a body without JSON",
        "a text",
        headers={_HEADER: "0"},
        status=400,
        reply="expected the number of bytes of the JSON",
        note="Triton reads the body as the only input",
    ),
    _infer(
        "classification",
        "`classification: 2` of an output",
        "`BYTES` of shape [batch, 2]: `value:index:label`, largest first",
        more=_wanted(classification=2),
        reply={"outputs": [{**_CLASSES, "shape": [1, 2]}]},
    ),
    _infer(
        "classification",
        "more classes than there are",
        "all",
        more=_wanted(classification=1000),
        reply={"outputs": [{**_CLASSES, "shape": [1, 3]}]},
    ),
    _infer(
        "classification",
        "`classification: -1`",
        "a text",
        more=_wanted(classification=-1),
        status=400,
        reply="parameters.classification: expected a number from 0 on. Received: -1",
    ),
    _infer(
        "not served",
        "`sequence_id`, `sequence_start`, `sequence_end`",
        "a text",
        more={"parameters": {"sequence_id": 7}},
        status=400,
        reply="the extension of this parameter is not served",
        note="an image classifier keeps no state; to ignore them would change the result",
    ),
    _infer(
        "not served",
        "`shared_memory_region`",
        "a text",
        document={"inputs": [{**_JSON, "parameters": {"shared_memory_region": "a"}}]},
        status=400,
        reply="the extension of this parameter is not served",
        note="client and gateway need not be on one machine",
    ),
    Case(
        "not served",
        "`GET /v2/models/M/config`, `/v2/models/M/stats`",
        "/v2/models/colours/config",
        "a text",
        status=404,
        reply="no such route",
        note="`GET /v1/models/M` and `/metrics` say it",
    ),
    Case(
        "not served",
        "`POST /v2/repository/...`",
        "/v2/repository/index",
        "a text",
        method="POST",
        status=404,
        reply="no such route",
        note="the model store decides what is served",
    ),
    Case("errors", "another method", INFER, "a text", status=405, reply="expected POST. Received: GET"),
    _infer(
        "errors",
        "a body that is compressed otherwise than by gzip or deflate",
        "a text",
        headers={"content-encoding": "br"},
        status=415,
        reply="content-encoding: expected gzip, deflate or none",
    ),
    _infer(
        "errors",
        "`X-Request-Timeout` that is no number",
        "a text",
        headers={"X-Request-Timeout": "soon"},
        status=422,
        reply="x-request-timeout: expected seconds",
    ),
)


def describe() -> list[str]:
    """Returns the lines of the page's section."""
    rows = [f"| {case.area} | {case.what} | {case.status} | {case.answer} |" for case in CASES]
    notes = [f"| {case.what} | {case.answer} | {case.note} |" for case in CASES if case.note]
    return [
        "",
        "| part | request | status | reply |",
        "|---|---|---|---|",
        *rows,
        "",
        "Beyond the protocol, or different from other servers on purpose:",
        "",
        "| request | here | why, or elsewhere |",
        "|---|---|---|",
        *notes,
        "",
    ]
