"""POST /v1/predict: images in, named classes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.gateway.components import Wired
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.groups import FOVEA
from service.gateway.documentation.schemas import PredictQuery, PredictReply
from service.gateway.http.json_response import JsonResponse
from service.gateway.inference.prediction import PredictSignature
from service.gateway.inference.reply_json import predict_reply
from service.gateway.routes.image_request import read_image_request, record_answer
from service.gateway.routes.request_schemas import image_body

router = APIRouter()

_SAMPLES = (
    "curl --data-binary @eye.jpg http://127.0.0.1:8000/v1/predict",
    "curl -F file=@left.jpg -F file=@right.png 'http://127.0.0.1:8000/v1/predict?model=glaucoma&top=2'",
)


@router.post(
    "/v1/predict",
    summary="Classify images",
    tags=[FOVEA],
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
    asked = await read_image_request(request, query, wired)
    async with wired.admission.place():
        answer = await wired.trials.answer(asked.context, asked.choice, asked.uploads, PredictSignature(query.top))
    wired.metrics.count_answer(answer.name, answer.version, entries=answer.entries)
    await record_answer(wired, asked, answer, action="predict")
    with wired.metrics.stage("encode"):
        return JsonResponse(predict_reply(answer, asked.names, asked.context.id))
