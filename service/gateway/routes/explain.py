"""POST /v1/explain: where in a picture a class was seen, as numbers or as a picture."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from contract.heatmap import draw_heatmap, encode_png
from service.gateway.components import Wired
from service.gateway.context.errors import InvalidValueError, RefusedImageError
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.groups import FOVEA
from service.gateway.documentation.schemas import ExplainQuery, ExplainReply
from service.gateway.http.content_negotiation import prefers, read_accept
from service.gateway.http.json_response import JsonResponse
from service.gateway.inference.explanation import ExplainSignature
from service.gateway.inference.image_results import Answer, Explanation
from service.gateway.inference.reply_json import explain_reply
from service.gateway.routes.image_request import read_image_request, record_answer
from service.gateway.routes.request_schemas import image_body

router = APIRouter()

_PNG = "image/png"
_MIN_DRAWN = 224  # pixels of the shorter side of a drawing; smaller inputs are enlarged by a whole factor
_SAMPLES = (
    "curl --data-binary @eye.jpg http://127.0.0.1:8000/v1/explain",
    "curl -H 'Accept: image/png' --data-binary @eye.jpg 'http://127.0.0.1:8000/v1/explain?class=glaucoma' -o heat.png",
)


@router.post(
    "/v1/explain",
    summary="Explain a class",
    tags=[FOVEA],
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
    asked = await read_image_request(request, query, wired)
    as_picture = prefers(read_accept(request), _PNG, "application/json")
    if as_picture and len(asked.uploads) > 1:
        raise InvalidValueError(f"Accept: image/png: expected one image. Received: {len(asked.uploads)}")
    async with wired.admission.place():
        signature = ExplainSignature(query.class_, query.top)
        answer = await wired.trials.answer(asked.context, asked.choice, asked.uploads, signature)
    await record_answer(wired, asked, answer, action="explain")
    with wired.metrics.stage("encode"):
        if as_picture:
            return await _picture_reply(answer)
        return JsonResponse(await asyncio.to_thread(explain_reply, answer, asked.names, asked.context.id))


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
        "x-model-precision": answer.precision,
        "x-class-index": str(entry.explained.index),
        "vary": "accept",
    }
    return Response(png, media_type=_PNG, headers=headers)
