"""POST /v1/embed: images in, vectors of features out, as JSON or as float32 bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from service.gateway.components import Wired
from service.gateway.context.errors import RefusedImageError
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.groups import FOVEA
from service.gateway.documentation.schemas import EmbedReply, VersionQuery
from service.gateway.http.content_negotiation import prefers, read_accept
from service.gateway.http.json_response import JsonResponse
from service.gateway.images.uploads import Upload
from service.gateway.inference.embedding import EmbedSignature
from service.gateway.inference.image_results import Answer, Embedded
from service.gateway.inference.reply_json import embed_reply
from service.gateway.routes.image_request import read_image_request, record_answer
from service.gateway.routes.request_schemas import image_body

router = APIRouter()

_BYTES = "application/octet-stream"
_SHAPE = "x-embedding-shape"
_VARY = {"vary": "accept"}
_SAMPLES = (
    "curl --data-binary @eye.jpg http://127.0.0.1:8000/v1/embed",
    "curl -H 'Accept: application/octet-stream' -F file=@left.jpg -F file=@right.png http://127.0.0.1:8000/v1/embed "
    "-o vectors.f32",
)


@router.post(
    "/v1/embed",
    summary="Turn images into vectors",
    tags=[FOVEA],
    response_model=EmbedReply,
    responses={
        200: {
            "description": "JSON, or with `Accept: application/octet-stream` the vectors one after the other as "
            "little-endian float32; the header X-Embedding-Shape is `images,dimension`.",
            "content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "X-Embedding-Shape": {
                    "description": "Of bytes: images and numbers in a vector.",
                    "schema": {"type": "string"},
                    "example": "2,512",
                }
            },
        },
        **error_replies(400, 404, 413, 415, 422, 502, 503, 504),
    },
    openapi_extra=image_body(_SAMPLES),
)
async def embed(request: Request, query: Annotated[VersionQuery, Query()], wired: Wired) -> Response:
    """Return, for each image, the pooled features of the network's last stage, for search and comparison.

    Vectors of one version can be compared with each other, not with those of another version. Of several images, those
    that cannot be decoded have `error` instead of `embedding`; if none can, the reply is the first one's error. As
    bytes there is no place for an error: the reply is then the first refused image's.
    """
    asked = await read_image_request(request, query, wired)
    as_bytes = prefers(read_accept(request), _BYTES, "application/json")
    async with wired.admission.place():
        answer = await wired.call.answer(asked.context, asked.choice, asked.uploads, EmbedSignature())
    wired.metrics.count_images(answer.entries)
    if as_bytes:
        _check_complete(asked.uploads, answer)
    await record_answer(wired, asked, answer, action="embed")
    with wired.metrics.stage("encode"):
        if as_bytes:
            return _bytes_reply(answer)
        text = await asyncio.to_thread(embed_reply, answer, asked.names, asked.context.id)
        return JsonResponse(text, headers=_VARY)


def _check_complete(uploads: Sequence[Upload], answer: Answer[Embedded]) -> None:
    """Refuse an answer that lacks a vector.

    Raises:
        RefusedImageError: the first refused image's, with its name.
    """
    for upload, entry in zip(uploads, answer.entries, strict=True):
        if isinstance(entry, RefusedImageError):
            raise entry.of_image(upload.name)


def _bytes_reply(answer: Answer[Embedded]) -> Response:
    stacked = np.stack([entry.vector for entry in answer.entries if isinstance(entry, Embedded)])
    headers = {
        "x-model-name": answer.name,
        "x-model-version": str(answer.version),
        "x-model-precision": answer.precision,
        _SHAPE: ",".join(str(size) for size in stacked.shape),
        **_VARY,
    }
    return Response(stacked.astype("<f4", copy=False).tobytes(), media_type=_BYTES, headers=headers)
