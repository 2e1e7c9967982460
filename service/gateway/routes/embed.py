"""POST /v1/embed: images in, vectors of features out, as JSON or as float32 bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from service.gateway.components import Wired
from service.gateway.context.errors import InvalidValueError, RefusedImageError
from service.gateway.context.request_context import RequestContext, context_of
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.schemas import EmbedReply, VersionQuery
from service.gateway.http.content_negotiation import prefers, read_accept
from service.gateway.http.error_replies import json_reply
from service.gateway.images.uploads import Upload, UploadLimits, read_uploads
from service.gateway.inference.embedding import EmbedSignature
from service.gateway.inference.image_results import Answer, Embedded
from service.gateway.inference.reply_json import model_document, refused_document
from service.gateway.inference.version_resolution import Choice
from service.gateway.protocols.tensorflow_rest import dump_reply, to_json
from service.gateway.records.audit_log import describe_answer
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
    tags=["prediction"],
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
    if query.version is not None and query.label is not None:
        raise InvalidValueError("version, label: expected one of them. Received: both")
    context = context_of(request.scope)
    limits = UploadLimits(wired.settings.max_body_bytes, wired.settings.max_images)
    with wired.metrics.stage("read"):
        uploads = await read_uploads(request, context, limits, wired.json_bodies)
    as_bytes = prefers(read_accept(request), _BYTES, "application/json")
    choice = Choice(query.model, query.version, query.label)
    async with wired.admission.place():
        answer = await wired.call.answer(context, choice, uploads, EmbedSignature())
    wired.metrics.count_images(answer.entries)
    if as_bytes:
        _check_complete(uploads, answer)
    if wired.audit is not None:
        await wired.audit.record(context, "embed", partial(describe_answer, answer, uploads))
    with wired.metrics.stage("encode"):
        if as_bytes:
            return _bytes_reply(answer)
        return json_reply(await asyncio.to_thread(_build_reply, context, uploads, answer), headers=_VARY)


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
        _SHAPE: ",".join(str(size) for size in stacked.shape),
        **_VARY,
    }
    return Response(stacked.astype("<f4", copy=False).tobytes(), media_type=_BYTES, headers=headers)


def _build_reply(context: RequestContext, uploads: Sequence[Upload], answer: Answer[Embedded]) -> str:
    document = {
        "model": model_document(answer.name, answer.version, answer.contract),
        "dimension": answer.contract.embedding_dimension,
        "embeddings": [_build_entry(upload.name, e) for upload, e in zip(uploads, answer.entries, strict=True)],
        "request_id": context.id,
    }
    return dump_reply(document)


def _build_entry(name: str, entry: Embedded | RefusedImageError) -> dict[str, Any]:
    if isinstance(entry, RefusedImageError):
        return refused_document(name, entry)
    return {"name": name, "embedding": to_json("embedding", entry.vector), "warnings": list(entry.warnings)}
