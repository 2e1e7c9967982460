"""Cancels a request when its client disconnects or its deadline passes; refuses it when the gateway is overloaded.

Cancelling the request's task drops the images that wait for decoding and cancels the call of the model server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.context.deadlines import HEADER, parse_timeout
from service.gateway.context.errors import DeadlineError, GatewayError
from service.gateway.context.request_context import context_of, name_route
from service.gateway.http.admission import Admission
from service.gateway.http.authorization import name_caller
from service.gateway.http.error_replies import error_reply

_WATCH_AFTER_S = 0.05  # most requests are answered sooner, and then need no task that watches the connection
_HEADER = HEADER.encode()


class RequestCancellation:
    """Surrounds the routes; requests without a body of their own pass through.

    Args:
        app: what answers.
        admission: says at once when a request would only be refused later.
        routes: the app's, to name the route of a refused request in the metrics.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = routes
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            timeout_s = _read_timeout(scope)
            self._admission.check()
        except GatewayError as err:
            name_route(scope, self._routes)
            await error_reply(err, scope)(scope, receive, send)
            return
        context = context_of(scope)
        context.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        context.caller = name_caller(context, scope)
        context.hold = held = self._admission.hold_bytes()
        visit = _Visit(receive, send)
        try:
            if timeout_s is None:
                await self._app(scope, visit.receive, visit.send)
            else:
                await self._answer_in_time(timeout_s, scope, visit)
        except asyncio.CancelledError:
            if not visit.left:
                raise
            visit.task.uncancel()
            raise ClientDisconnect from None
        finally:
            visit.end()
            held.release()

    async def _answer_in_time(self, timeout_s: float, scope: Scope, visit: _Visit) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._app(scope, visit.receive, visit.send)
        except TimeoutError as err:
            if visit.answering:
                raise ClientDisconnect from err  # half a reply is of no use
            late = DeadlineError(f"the {timeout_s:g} s that the client waits were over before there was an answer")
            await error_reply(late, scope)(scope, visit.receive, visit.send)


class _Visit:
    """One request's messages on their way; notices when the client leaves once the body is read."""

    def __init__(self, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered in a task")
        self.task = task
        self.left = False
        self.answering = False
        self._receive = receive
        self._send = send
        self._alarm: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body") and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._start_watch)
        return message

    async def send(self, message: Message) -> None:
        if not self.answering:
            self.answering = True
            self.end()  # from here on a disconnect loses only the reply
        await self._send(message)

    def end(self) -> None:
        """Stop watching."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _start_watch(self) -> None:
        self._watch = asyncio.create_task(self._cancel_when_left())

    async def _cancel_when_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        self.task.cancel()


def _read_timeout(scope: Scope) -> float | None:
    for name, value in scope["headers"]:
        if name == _HEADER:
            return parse_timeout(value.decode("latin-1"))
    return None
