"""Wraps every request: id, metrics, log line, and the answer to an internal error."""

from __future__ import annotations

import logging
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.context.errors import GatewayError
from service.gateway.context.prefixes import ASKED_PATH
from service.gateway.context.request_context import HEADER, RequestContext, open_context
from service.gateway.http.error_replies import error_reply
from service.gateway.telemetry.logs import RequestLine, log_request, set_logged_request_id
from service.gateway.telemetry.metrics import Metrics

logger = logging.getLogger("fovea.requests")

CLIENT_LEFT = 499  # never sent: the client is gone; for metrics and the log
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID = HEADER.encode()
# For replies that do not say it themselves: what a picture shows belongs in no cache, a body is what its type says.
_HEADERS = {
    b"cache-control": b"no-store",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


class RequestScope:
    """Surrounds the app; outside of it are only CORS headers and the reading of paths.

    Args:
        app: what answers.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = open_context(scope, _header(scope, _ID))
        set_logged_request_id(context.id)
        exchange = _Exchange(receive, send, context.id)
        start = time.perf_counter()
        with self._metrics.request():
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except ClientDisconnect:
                exchange.status = CLIENT_LEFT
            except Exception:
                # A fault of ours: the client learns nothing of it but the id, the log has the traceback.
                logger.exception("unexpected error")
                if exchange.started:
                    raise
                fault = GatewayError("an unexpected error; the log has it under the request id")
                await error_reply(fault, scope)(scope, receive, exchange.send)
            finally:
                self._record(scope, context, exchange, seconds=time.perf_counter() - start)

    def _record(self, scope: Scope, context: RequestContext, exchange: _Exchange, *, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.count_request(route, method, code=exchange.status, seconds=seconds)
        self._metrics.count_bytes(route, received=exchange.received, sent=exchange.sent)
        log_request(
            RequestLine(
                method=method,
                path=scope.get(ASKED_PATH, scope["path"]),
                route=route,
                status=exchange.status,
                ms=1e3 * seconds,
                received=exchange.received,
                sent=exchange.sent,
                client=(scope.get("client") or ("-",))[0],
                key=context.key,
            )
        )


class _Exchange:
    """A request on its way in and its reply on its way out: counts bytes, adds headers, remembers the status."""

    __slots__ = ("_receive", "_request_id", "_send", "received", "sent", "started", "status")

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self.status = 500  # of a reply that never starts
        self.started = False
        self.received = 0
        self.sent = 0
        self._receive = receive
        self._send = send
        self._request_id = request_id.encode()

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = [*message.get("headers", ()), (_ID, self._request_id)]
            said = {name for name, _ in headers}
            headers += [header for header in _HEADERS.items() if header[0] not in said]
            message = {**message, "headers": headers}
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)
