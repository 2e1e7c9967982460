"""What the routes for tensors share, whichever protocol they speak: a request's way, and errors that are a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.gateway.audit import describe_bodies
from service.gateway.catalog import Choice
from service.gateway.components import Components
from service.gateway.errors import GatewayError
from service.gateway.replies import json_reply, retry_headers
from service.gateway.rest_prediction import TensorRequest
from service.gateway.uploads import UploadLimits, read_body


class TextErrorRoute(APIRoute):
    """A route whose errors are `{"error": text}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except GatewayError as err:
                status_code, message = self.translate(err, request.path_params)
                return json_reply(json.dumps({"error": message}), status_code, headers=retry_headers(err))

        return answer

    def translate(self, err: GatewayError, parameters: dict[str, Any]) -> tuple[int, str]:
        """Return status and text of an error, given what stands in the path."""
        return err.status_code, str(err)


async def answer_tensors(
    request: Request, choice: Choice, wired: Components, *, parse: Callable[[bytes], TensorRequest], action: str
) -> Response:
    """Read a body, run the signature that it asks for, and reply.

    Args:
        request: its body is read here.
        choice: the model and version.
        wired: the gateway's parts.
        parse: reads the body, by the rules of its protocol.
        action: what the audit log calls it.
    """
    body = await read_body(request, UploadLimits(wired.settings.max_body_bytes, wired.settings.max_images))
    async with wired.admission.place():
        answer = await wired.rest_predictor.predict(body, choice, parse)
    if wired.audit is not None:
        contract = wired.contracts.peek(answer.name, answer.version)
        fields = {"model": answer.name, "version": answer.version, "contract": contract and contract.sha256}
        hashed = partial(describe_bodies, fields, body=body, reply=answer.text)
        await wired.audit.record(request.scope, action, hashed)
    headers = {"x-model-name": answer.name, "x-model-version": str(answer.version)}
    return json_reply(answer.text, headers=headers)
