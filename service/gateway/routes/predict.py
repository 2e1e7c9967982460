"""POST /v1/predict: images in, named classes out."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.gateway.components import Wired
from service.gateway.context.errors import InvalidValueError, RefusedImageError
from service.gateway.context.request_context import RequestContext, context_of
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.schemas import PredictQuery, PredictReply
from service.gateway.http.error_replies import json_reply
from service.gateway.images.uploads import Upload, UploadLimits, read_uploads
from service.gateway.inference.image_results import Answer, Classified
from service.gateway.inference.prediction import PredictSignature
from service.gateway.inference.reply_json import dump, image_document, model_document, refused_document
from service.gateway.inference.version_resolution import Choice
from service.gateway.records.audit_log import describe_answer
from service.gateway.routes.request_schemas import image_body

router = APIRouter()

_SAMPLES = (
    "curl --data-binary @eye.jpg http://127.0.0.1:8000/v1/predict",
    "curl -F file=@left.jpg -F file=@right.png 'http://127.0.0.1:8000/v1/predict?model=glaucoma&top=2'",
)


@router.post(
    "/v1/predict",
    summary="Classify images",
    tags=["prediction"],
    response_model=PredictReply,
    responses=error_replies(400, 404, 413, 415, 422, 502, 503, 504),
    openapi_extra=image_body(_SAMPLES),
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()], wired: Wired) -> Response:
    """Return the most probable classes of each image.

    One version answers the whole request: the image is prepared as that version's contract says, and its labels name
    the classes. Of several images, those that cannot be decoded have `error` instead of `top`; if none can, the reply
    is the first one's error.
    """
    if query.version is not None and query.label is not None:
        raise InvalidValueError("version, label: expected one of them. Received: both")
    context = context_of(request.scope)
    limits = UploadLimits(wired.settings.max_body_bytes, wired.settings.max_images)
    with wired.metrics.stage("read"):
        uploads = await read_uploads(request, context, limits, wired.json_bodies)
    choice = Choice(query.model, query.version, query.label)
    async with wired.admission.place():
        answer = await wired.call.answer(context, choice, uploads, PredictSignature(query.top))
    wired.metrics.count_answer(answer.name, answer.version, entries=answer.entries)
    if wired.audit is not None:
        await wired.audit.record(context, "predict", partial(describe_answer, answer, uploads))
    with wired.metrics.stage("encode"):
        return json_reply(_build_reply(context, uploads, answer))


def _build_reply(context: RequestContext, uploads: list[Upload], answer: Answer[Classified]) -> str:
    entries = [_build_entry(upload.name, entry) for upload, entry in zip(uploads, answer.entries, strict=True)]
    model = model_document(answer.name, answer.version, answer.contract)
    return dump({"model": model, "predictions": entries, "request_id": context.id})


def _build_entry(name: str, entry: Classified | RefusedImageError) -> dict[str, Any]:
    if isinstance(entry, RefusedImageError):
        return refused_document(name, entry)
    return image_document(name, entry.top, entry.decision, entry.warnings)
