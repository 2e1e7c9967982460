"""The Open Inference Protocol (KServe's v2 over REST): health, metadata, inference, with its own error bodies."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel

from service import VERSION
from service.gateway.backend.backend import AVAILABLE
from service.gateway.components import Wired
from service.gateway.context.errors import InvalidArgumentError, VersionNotFoundError
from service.gateway.documentation.error_responses import text_error_replies
from service.gateway.documentation.groups import OPEN_INFERENCE
from service.gateway.inference.fallback_versions import missing_version
from service.gateway.inference.version_resolution import Choice
from service.gateway.protocols.open_inference import (
    BINARY_TYPE,
    EXTENSIONS,
    InferRequest,
    Tensor,
    TensorMetadata,
    describe_inputs,
    describe_outputs,
    parse_infer,
)
from service.gateway.protocols.signature_cache import read_inputs, read_outputs
from service.gateway.protocols.tensor_binary import read_json_bytes
from service.gateway.protocols.tensor_prediction import DEFAULT_SIGNATURE
from service.gateway.routes.health import report_readiness
from service.gateway.routes.request_schemas import EXAMPLE_B64, inline_schema
from service.gateway.routes.tensors import answer_tensors

router = APIRouter(tags=[OPEN_INFERENCE])


class ServerLive(BaseModel):
    """Reply of GET /v2/health/live."""

    live: bool


class ServerReady(BaseModel):
    """Reply of GET /v2/health/ready when ready."""

    ready: bool


class ServerMetadata(BaseModel):
    """Reply of GET /v2."""

    name: str
    version: str
    extensions: list[str]


class ModelReady(BaseModel):
    """Reply of GET /v2/models/{model}/ready when ready."""

    name: str
    ready: bool


class ModelMetadata(BaseModel):
    """Reply of GET /v2/models/{model}."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferReply(BaseModel):
    """Reply of POST /v2/models/{model}/infer."""

    model_name: str
    model_version: str
    id: str
    outputs: list[Tensor]


_VERSION = "[1-9][0-9]{0,17}"
_NUMBER: dict[str, Any] = {"pattern": f"^{_VERSION}$"}  # checked by hand: a text that is no number is not found
Model = Annotated[str, Path(description="The model's name.", examples=["glaucoma"])]
Version = Annotated[str, Path(description="A version number.", examples=["3"], json_schema_extra=_NUMBER)]


def _example(example: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"example": example}}}


_IMAGES = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [EXAMPLE_B64]}
_PIXELS = {"name": "images", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": [0, 0, 0, 255, 255, 255]}
_PROBABILITIES = {"name": "probabilities", "datatype": "FP32", "shape": [1, 2]}
_READY: dict[str, Any] = {
    "response_model": ModelReady,
    "responses": {200: _example({"name": "glaucoma", "ready": True}), **text_error_replies(404, 502, 503, 504)},
}
_METADATA: dict[str, Any] = {
    "response_model": ModelMetadata,
    "responses": {
        200: _example(
            {
                "name": "glaucoma",
                "versions": ["2", "3"],
                "platform": "tensorflow_savedmodel",
                "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 224, 224, 3]}],
                "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
            }
        ),
        **text_error_replies(400, 404, 502, 503, 504),
    },
}
_BINARY: dict[str, Any] = {BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_ANSWER = {
    "model_name": "glaucoma",
    "model_version": "3",
    "id": "42",
    "outputs": [{**_PROBABILITIES, "data": [0.9312847, 0.0687153]}],
}
_JSON_BYTES: dict[str, Any] = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "How many bytes at the body's beginning are JSON, where binary data of inputs follow. The reply has "
    "the same header where binary data of outputs follow its JSON.",
    "schema": {"type": "integer", "minimum": 1},
}
_INFER: dict[str, Any] = {
    "response_model": InferReply,
    "responses": {
        200: {"content": {**_example(_ANSWER)["content"], **_BINARY}},
        **text_error_replies(
            400,
            404,
            413,
            415,
            422,
            502,
            503,
            504,
            examples={400: 'input "images": expected datatype UINT8. Received: "FP32"'},
        ),
    },
    "openapi_extra": {
        "parameters": [_JSON_BYTES],
        "requestBody": {
            "required": True,
            "description": "JSON whatever the content type says, and binary data after it by the header.",
            "content": {
                **_BINARY,
                "application/json": {
                    "schema": inline_schema(InferRequest),
                    "examples": {
                        "images": {"value": {"id": "42", "inputs": [_IMAGES]}},
                        "numbers": {"value": {"inputs": [_PIXELS], "outputs": [{"name": "probabilities"}]}},
                    },
                },
            },
        },
    },
}


@router.get(
    "/v2",
    summary="Which server is this?",
    responses={200: _example({"name": "fovea", "version": VERSION, "extensions": list(EXTENSIONS)})},
)
async def describe_server() -> ServerMetadata:
    """Return name, version and the extensions of the protocol that are served."""
    return ServerMetadata(name="fovea", version=VERSION, extensions=list(EXTENSIONS))


@router.get("/v2/health/live", summary="/healthz of the Open Inference Protocol")
async def report_live() -> ServerLive:
    """Say that the process answers; says nothing about models."""
    return ServerLive(live=True)


@router.get("/v2/health/ready", summary="/readyz of the Open Inference Protocol", responses=text_error_replies(503))
async def report_ready(wired: Wired) -> ServerReady:
    """Say whether every live model has answered a warm prediction, or failed for good; a 503 names the missing part."""
    await report_readiness(wired)
    return ServerReady(ready=True)


@router.get("/v2/models/{model}", summary="List a model's inputs and outputs", **_METADATA)
async def describe(model: Model, wired: Wired) -> ModelMetadata:
    """Return the versions that may be asked for, and the live one's inputs and outputs."""
    return await _describe(Choice(model), wired)


@router.get("/v2/models/{model}/versions/{version}", summary="The same of exactly this version", **_METADATA)
async def describe_version(model: Model, version: Version, wired: Wired) -> ModelMetadata:
    """Return the versions that may be asked for, and this one's inputs and outputs."""
    return await _describe(_choose(model, version), wired)


@router.get("/v2/models/{model}/ready", summary="Can a model answer?", **_READY)
async def report_model(model: Model, wired: Wired) -> ModelReady:
    """Say whether a version is loaded that answers for the model now; 503 if not."""
    return await _report(Choice(model), wired)


@router.get("/v2/models/{model}/versions/{version}/ready", summary="Can this version answer?", **_READY)
async def report_version(model: Model, version: Version, wired: Wired) -> ModelReady:
    """Say whether this version is loaded; 503 if not."""
    return await _report(_choose(model, version), wired)


@router.post("/v2/models/{model}/infer", summary="Infer, as the Open Inference Protocol has it", **_INFER)
async def infer(request: Request, model: Model, wired: Wired) -> Response:
    """Run a signature of the live version: `serving_default`, or the one that `parameters.signature_name` names.

    Numbers go to the model as they are. Where a model of Fovea takes pixels, `BYTES` are image files (in JSON as
    base64), decoded and resized as the model's contract says. Inputs and outputs are JSON or, with
    `Inference-Header-Content-Length`, binary data after it; an output's parameter `classification` asks for that many
    classes as `value:index:label`.
    """
    return await _infer(request, Choice(model), wired)


@router.post("/v2/models/{model}/versions/{version}/infer", summary="The same, by exactly this version", **_INFER)
async def infer_by_version(request: Request, model: Model, version: Version, wired: Wired) -> Response:
    """Run a signature of one version; see the route without a version."""
    return await _infer(request, _choose(model, version), wired)


async def _infer(request: Request, choice: Choice, wired: Wired) -> Response:
    json_bytes = read_json_bytes(request.scope["headers"])
    parse = partial(parse_infer, json_bytes=json_bytes)
    return await answer_tensors(request, choice, wired, parse=parse, action="infer", json_bytes=json_bytes)


async def _describe(choice: Choice, wired: Wired) -> ModelMetadata:
    name, version, signatures = await wired.tensor_predictor.describe(choice)
    if DEFAULT_SIGNATURE not in signatures:
        raise InvalidArgumentError(f"expected a model with the signature {DEFAULT_SIGNATURE!r}. Received: one without")
    signature = signatures[DEFAULT_SIGNATURE]
    roles = await wired.catalog.roles(name)
    return ModelMetadata(
        name=name,
        versions=[str(number) for number in sorted({version, *roles.values()})],
        platform="tensorflow_savedmodel",
        inputs=describe_inputs(read_inputs(signature)),
        outputs=describe_outputs(read_outputs(signature)),
    )


async def _report(choice: Choice, wired: Wired) -> ModelReady:
    target = await wired.catalog.resolve(choice)
    states = {status.version: status.state for status in await wired.backend.status(target.name)}
    if not any(states.get(version) == AVAILABLE for version in target.versions):
        raise missing_version(target)
    return ModelReady(name=target.name, ready=True)


def _choose(model: str, version: str) -> Choice:
    """Return the model and version of a path.

    Raises:
        VersionNotFoundError: if the version is no number, as all versions are.
    """
    if not re.fullmatch(_VERSION, version):
        raise VersionNotFoundError(f"expected a version number from 1 on. Received: {version[:64]!r}")
    return Choice(model, version=int(version))
