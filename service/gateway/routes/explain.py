"""POST /v1/explain: where in a picture a class was seen, as numbers or as a picture."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from contract.heatmap import draw_heatmap, encode_png
from service.gateway.components import Wired
from service.gateway.context.errors import InvalidValueError, RefusedImageError
from service.gateway.context.request_context import RequestContext, context_of
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.schemas import ExplainQuery, ExplainReply
from service.gateway.http.content_negotiation import prefers, read_accept
from service.gateway.http.error_replies import json_reply
from service.gateway.images.uploads import Upload, UploadLimits, read_uploads
from service.gateway.inference.explanation import ExplainSignature
from service.gateway.inference.image_results import Answer, Explanation
from service.gateway.inference.reply_json import class_document, dump, image_document, model_document, refused_document
from service.gateway.inference.version_resolution import Choice
from service.gateway.records.audit_log import describe_answer
from service.gateway.routes.request_schemas import image_body

router = APIRouter()

_PNG = "image/png"
_MIN_DRAWN = 224  # pixels of the shorter side of a drawing; smaller inputs are enlarged by a whole factor
_DECIMALS = 4
_SAMPLES = (
    "curl --data-binary @eye.jpg http://127.0.0.1:8000/v1/explain",
    "curl -H 'Accept: image/png' --data-binary @eye.jpg 'http://127.0.0.1:8000/v1/explain?class=glaucoma' -o heat.png",
)


@router.post(
    "/v1/explain",
    summary="Explain a class",
    tags=["prediction"],
    response_model=ExplainReply,
    responses={
        200: {
            "description": "Numbers, or with `Accept: image/png` one picture: the image as the model saw it in grey, "
            "coloured where the class was seen.",
            "content": {_PNG: {"schema": {"type": "string", "format": "binary"}}},
        },
        **error_replies(400, 404, 413, 415, 422, 502, 503, 504),
    },
    openapi_extra=image_body(_SAMPLES),
)
async def explain(
    request: Request,
    query: Annotated[ExplainQuery, Query()],
    wired: Wired,
) -> Response:
    """Return, for each image, how strongly each part of it speaks for a class.

    The map is a grid over the whole picture as the model saw it, 0 to 1, at the resolution of the network's last
    convolution; each map is divided by its own maximum. It says where the network looked, not whether it is right.
    """
    if query.version is not None and query.label is not None:
        raise InvalidValueError("version, label: expected one of them. Received: both")
    context = context_of(request.scope)
    with wired.metrics.stage("read"):
        limits = UploadLimits(wired.settings.max_body_bytes, wired.settings.max_images)
        uploads = await read_uploads(request, context, limits, wired.json_bodies)
    as_picture = prefers(read_accept(request), _PNG, "application/json")
    if as_picture and len(uploads) > 1:
        raise InvalidValueError(f"Accept: image/png: expected one image. Received: {len(uploads)}")
    choice = Choice(query.model, query.version, query.label)
    async with wired.admission.place():
        answer = await wired.call.answer(context, choice, uploads, ExplainSignature(query.class_, query.top))
    if wired.audit is not None:
        await wired.audit.record(context, "explain", partial(describe_answer, answer, uploads))
    with wired.metrics.stage("encode"):
        if as_picture:
            return await _picture_reply(answer)
        return json_reply(await asyncio.to_thread(_build_reply, context, uploads, answer))


async def _picture_reply(answer: Answer[Explanation]) -> Response:
    (entry,) = answer.entries
    if isinstance(entry, RefusedImageError):
        raise entry
    height, width = entry.picture.shape[:2]
    scale = max(1, -(-_MIN_DRAWN // min(height, width)))
    png = await asyncio.to_thread(lambda: encode_png(draw_heatmap(entry.picture, entry.saliency, scale=scale)))
    headers = {
        "x-model-name": answer.name,
        "x-model-version": str(answer.version),
        "x-class-index": str(entry.explained.index),
        "vary": "accept",
    }
    return Response(png, media_type=_PNG, headers=headers)


def _build_reply(context: RequestContext, uploads: list[Upload], answer: Answer[Explanation]) -> str:
    entries = [_build_entry(upload.name, entry) for upload, entry in zip(uploads, answer.entries, strict=True)]
    model = model_document(answer.name, answer.version, answer.contract)
    return dump({"model": model, "explanations": entries, "request_id": context.id})


def _build_entry(name: str, entry: Explanation | RefusedImageError) -> dict[str, Any]:
    if isinstance(entry, RefusedImageError):
        return refused_document(name, entry)
    classified = entry.classified
    rows, columns = entry.saliency.shape
    values = np.round(entry.saliency.astype(np.float64), _DECIMALS).tolist()
    return {
        **image_document(name, classified.top, classified.decision, classified.warnings),
        "class": class_document(entry.explained),
        "saliency": {"rows": rows, "columns": columns, "values": values},
    }
