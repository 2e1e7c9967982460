"""The way of a request with tensors, whichever protocol it speaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import Request, Response

from service.gateway.bodies.json_document import Load
from service.gateway.components import Components
from service.gateway.context.request_context import context_of
from service.gateway.images.uploads import UploadLimits, read_body
from service.gateway.inference.version_resolution import Choice
from service.gateway.protocols.tensor_prediction import TensorRequest
from service.gateway.records.audit_log import describe_bodies


async def answer_tensors(
    request: Request,
    choice: Choice,
    wired: Components,
    *,
    parse: Callable[[bytes, Load], TensorRequest],
    action: str,
    json_bytes: int | None = None,
) -> Response:
    """Reads a body, runs the signature that it asks for, and replies.

    Args:
        request: its body is read here.
        choice: the model and version.
        wired: the gateway's parts.
        parse: reads the body, by the rules of its protocol; given what parses its JSON.
        action: its name in the audit log.
        json_bytes: how many bytes at the body's beginning are JSON; all of them by default.
    """
    context = context_of(request.scope)
    body = await read_body(request, context, UploadLimits(wired.settings.max_body_bytes, wired.settings.max_images))
    async with wired.admission.place():
        answer = await wired.tensor_predictor.predict(context, body, choice, parse, json_bytes=json_bytes)
    reply = answer.reply
    if wired.audit is not None:
        contract = wired.contracts.peek(answer.name, answer.version)
        fields = {
            "model": answer.name,
            "version": answer.version,
            "contract": contract and contract.sha256,
            "precision": answer.precision,
        }
        hashed = partial(describe_bodies, fields, body=body, reply=reply.content)
        await wired.audit.record(context, action, hashed)
    headers = {
        "x-model-name": answer.name,
        "x-model-version": str(answer.version),
        "x-model-precision": answer.precision,
        **reply.headers,
    }
    return Response(reply.content, headers=headers, media_type=reply.media_type)
