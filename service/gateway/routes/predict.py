"""POST /v1/predict: images in, named classes out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from contract.predictions import Prediction
from service.gateway.catalog import Choice
from service.gateway.components import Wired
from service.gateway.errors import InvalidValueError, RefusedImageError
from service.gateway.prediction import Answer
from service.gateway.replies import json_reply
from service.gateway.request_context import current_request_id
from service.gateway.routes.documented import error_replies
from service.gateway.schemas import (
    ClassProbability,
    EntryError,
    ModelRef,
    PredictionEntry,
    PredictQuery,
    PredictReply,
)
from service.gateway.uploads import FIELD, JsonImages, Upload, UploadLimits, read_uploads

router = APIRouter()

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_SAMPLES = (
    "curl --data-binary @eye.jpg http://127.0.0.1:8000/v1/predict",
    "curl -F file=@left.jpg -F file=@right.png 'http://127.0.0.1:8000/v1/predict?model=glaucoma&top=2'",
)
_BODY: dict[str, Any] = {
    "x-codeSamples": [{"lang": "Shell", "source": sample} for sample in _SAMPLES],
    "requestBody": {
        "required": True,
        "description": "One image as it is, several as files of a form, or JSON with base64.",
        "content": {
            "image/*": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/json": {
                "schema": JsonImages.model_json_schema(ref_template="#/components/schemas/{model}"),
                "example": {"images": [{"b64": "iVBORw0KGgo...", "name": "eye.png"}]},
            },
        },
    },
}
# Pydantic nests the definition of an item; OpenAPI wants it in place, since nothing else uses it.
_JSON_SCHEMA = _BODY["requestBody"]["content"]["application/json"]["schema"]
_JSON_SCHEMA["properties"]["images"]["items"] = _JSON_SCHEMA.pop("$defs")["JsonImage"]


@router.post(
    "/v1/predict",
    summary="Classify images",
    tags=["prediction"],
    response_model=PredictReply,
    responses=error_replies(400, 404, 413, 415, 422, 502, 503, 504),
    openapi_extra=_BODY,
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()], wired: Wired) -> Response:
    """Return the most probable classes of each image.

    One version answers the whole request: the image is prepared as that version's contract says, and its labels name
    the classes. Of several images, those that cannot be decoded have `error` instead of `top`; if none can, the reply
    is the first one's error.
    """
    if query.version is not None and query.label is not None:
        raise InvalidValueError("version, label: expected one of them. Received: both")
    limits = UploadLimits(wired.settings.max_body_bytes, wired.settings.max_images)
    with wired.metrics.stage("read"):
        uploads = await read_uploads(request, limits)
    choice = Choice(query.model, query.version, query.label)
    answer = await wired.predictor.predict(uploads, choice, top=query.top)
    with wired.metrics.stage("encode"):
        return json_reply(_build_reply(uploads, answer).model_dump_json(exclude_none=True))


def _build_reply(uploads: list[Upload], answer: Answer) -> PredictReply:
    return PredictReply(
        model=ModelRef(name=answer.name, version=answer.version, contract=answer.contract.sha256),
        predictions=[_build_entry(upload.name, entry) for upload, entry in zip(uploads, answer.entries, strict=True)],
        request_id=current_request_id(),
    )


def _build_entry(name: str, entry: list[Prediction] | RefusedImageError) -> PredictionEntry:
    if isinstance(entry, RefusedImageError):
        return PredictionEntry(name=name, error=EntryError(code=entry.code, message=str(entry)))
    top = [
        ClassProbability(index=item.index, id=item.id, label=item.label, probability=item.probability) for item in entry
    ]
    return PredictionEntry(name=name, top=top)
