"""What surrounds every request: its id, its metrics, its access log line, and the answer to a fault of ours."""

from __future__ import annotations

import logging
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.errors import GatewayError
from service.gateway.metrics import Metrics
from service.gateway.replies import error_reply
from service.gateway.request_context import HEADER, adopt_request_id

logger = logging.getLogger("fovea.requests")
access_logger = logging.getLogger("fovea.access")

CLIENT_LEFT = 499  # never sent: the client is gone; for metrics and the log
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})  # polled for ever; logged at level debug
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestScope:
    """Surrounds the app; the outermost layer but for the framework's own.

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
        reply = _Reply(send, adopt_request_id(_header(scope, HEADER)))
        start = time.perf_counter()
        with self._metrics.request():
            try:
                await self._app(scope, receive, reply.send)
            except ClientDisconnect:
                reply.status = CLIENT_LEFT
            except Exception:
                # A fault of ours: the client learns nothing of it but the id, the log has the traceback.
                logger.exception("unexpected error")
                if reply.started:
                    raise
                await error_reply(GatewayError("an unexpected error; the log has it under the request id"))(
                    scope, receive, reply.send
                )
            finally:
                self._record(scope, reply.status, seconds=time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, *, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.count_request(route, method, code=status, seconds=seconds)
        client = (scope.get("client") or ("-",))[0]
        level = logging.DEBUG if route in _QUIET_ROUTES else logging.INFO
        access_logger.log(
            level, "%s %s %d %.1f ms %s", method, _printable(scope["path"]), status, 1e3 * seconds, client
        )


class _Reply:
    """A reply on its way out: adds the request id, remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.status = 500  # what a reply that never starts amounts to
        self.started = False
        self._send = send
        self._request_id = request_id.encode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), (HEADER.encode(), self._request_id)]}
        await self._send(message)


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), None)


def _printable(path: str) -> str:
    """Return a path that cannot forge a log line."""
    return path[:200].encode("unicode_escape").decode("ascii")
