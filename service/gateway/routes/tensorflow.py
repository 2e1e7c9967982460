"""TensorFlow Serving's REST API: predict and metadata."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from google.protobuf.json_format import MessageToDict

from contract.tensors import get_model_metadata_pb2
from service.gateway.components import Wired
from service.gateway.context.errors import InvalidArgumentError
from service.gateway.documentation.groups import TENSORFLOW_SERVING
from service.gateway.http.json_response import JsonResponse
from service.gateway.inference.version_resolution import Choice
from service.gateway.protocols.tensorflow_rest import parse_request
from service.gateway.routes.tensorflow_schemas import METADATA, PREDICT
from service.gateway.routes.tensors import answer_tensors

_MAX_VERSION = 2**63 - 1


router = APIRouter(tags=[TENSORFLOW_SERVING])

_DIGITS: dict[str, Any] = {"pattern": "^[0-9]+$"}  # checked by hand: the error is TensorFlow Serving's
Model = Annotated[str, Path(description="The model's name.", examples=["glaucoma"])]
Version = Annotated[str, Path(description="A version number.", examples=["3"], json_schema_extra=_DIGITS)]
Label = Annotated[str, Path(description="live, previous or candidate.", examples=["live"])]


@router.post("/v1/models/{model}:predict", summary="Predict, as TensorFlow Serving does", **PREDICT)
async def predict(request: Request, model: Model, wired: Wired) -> Response:
    """Run a signature of the live version on JSON in row ("instances") or column ("inputs") format.

    Numbers go to the model as they are. Where a model of Fovea takes pixels, `{"b64": "..."}` is an encoded image,
    decoded and resized as the model's contract says.
    """
    return await _predict(request, Choice(model), wired)


@router.post("/v1/models/{model}/versions/{version}:predict", summary="The same, by exactly this version", **PREDICT)
async def predict_by_version(request: Request, model: Model, version: Version, wired: Wired) -> Response:
    """Run a signature of one version; see the route without a version."""
    return await _predict(request, Choice(model, version=_read_version(version, request)), wired)


@router.post("/v1/models/{model}/labels/{label}:predict", summary="The same, by the version with a label", **PREDICT)
async def predict_by_label(request: Request, model: Model, label: Label, wired: Wired) -> Response:
    """Run a signature of the version that a label stands for; see the route without a label."""
    return await _predict(request, Choice(model, label=label), wired)


@router.get("/v1/models/{model}/metadata", summary="Signatures, as TensorFlow Serving tells them", **METADATA)
async def describe(model: Model, wired: Wired) -> Response:
    """Return the live version's signatures."""
    return await _describe(Choice(model), wired)


@router.get("/v1/models/{model}/versions/{version}/metadata", summary="The same of exactly this version", **METADATA)
async def describe_version(request: Request, model: Model, version: Version, wired: Wired) -> Response:
    """Return one version's signatures."""
    return await _describe(Choice(model, version=_read_version(version, request)), wired)


@router.get("/v1/models/{model}/labels/{label}/metadata", summary="The same of the version with a label", **METADATA)
async def describe_label(model: Model, label: Label, wired: Wired) -> Response:
    """Return the signatures of the version that a label stands for."""
    return await _describe(Choice(model, label=label), wired)


@router.post("/v1/models/{path:path}:classify", include_in_schema=False)
@router.post("/v1/models/{path:path}:regress", include_in_schema=False)
async def refuse(request: Request) -> Response:
    """Say what to call instead: these two take tf.Example records, which no image model has a signature for."""
    verb = request.url.path.rpartition(":")[2]
    raise InvalidArgumentError(f"expected :predict, or /v1/predict for named classes. Received: :{verb}")


@router.post("/v1/models/{path:path}:", include_in_schema=False)
@router.post("/v1/models/{path:path}:{verb}", include_in_schema=False)
async def refuse_unknown(request: Request) -> Response:
    """Refuse a verb that does not exist, in TensorFlow Serving's words."""
    raise _malformed(request)


async def _predict(request: Request, choice: Choice, wired: Wired) -> Response:
    return await answer_tensors(request, choice, wired, parse=parse_request, action="rest_predict")


async def _describe(choice: Choice, wired: Wired) -> Response:
    name, version, signatures = await wired.tensor_predictor.describe(choice)
    message = get_model_metadata_pb2.SignatureDefMap(signature_def=signatures)
    document = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    reply = {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": document},
    }
    return JsonResponse(json.dumps(reply))


def _read_version(text: str, request: Request) -> int:
    """Return a version number.

    Raises:
        InvalidArgumentError: as TensorFlow Serving says it.
    """
    if not re.fullmatch("[0-9]+", text):
        raise _malformed(request)
    if len(text) > 19 or not 1 <= int(text) <= _MAX_VERSION:
        raise InvalidArgumentError(f"Failed to convert version: {text[:32]} to numeric.")
    return int(text)


def _malformed(request: Request) -> InvalidArgumentError:
    return InvalidArgumentError(f"Malformed request: {request.method} {ascii(request.url.path)[1:-1][:200]}")
