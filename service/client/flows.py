"""Decides a client's next step: send, retry, wait, return or fail; performs no I/O itself.

A flow is a generator. It yields steps, receives each step's result (or its error, thrown into it), and returns the
result of the call. A busy service (429, 503) is asked again when its Retry-After says so, a bounded number of times and
never beyond the total time. A request that may be repeated is sent once more, on a new connection, if its kept
connection ended before a reply began.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import httpx2

from service.client.calls import Attempts, Call, build_ready
from service.client.connections import ConnectionWatch
from service.results import FoveaError, Readiness

_POLL_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """A step: send a request and return the reply.

    Attributes:
        method: of HTTP.
        path: below the service's address.
        options: of httpx's `request`.
        timeout_s: longest wait for the reply.
        watch: follows the connection; None for a request that needs a new connection.
    """

    method: str
    path: str
    options: dict[str, Any]
    timeout_s: float
    watch: ConnectionWatch | None


@dataclass(frozen=True)
class Wait:
    """A step: wait for a number of seconds and return None."""

    seconds: float


Flow: TypeAlias = Generator[Send | Wait, Any, T]


@dataclass(frozen=True)
class Policy:
    """Timeout and retries of calls.

    Attributes:
        url: of the service, for messages.
        timeout_s: longest wait for an answer, all attempts together.
        retries: most further attempts after a busy reply.
    """

    url: httpx2.URL
    timeout_s: float
    retries: int

    def send(self, call: Call[T]) -> Flow[T]:
        """Return the flow of one call.

        Raises:
            FoveaError: if the service refuses or cannot be reached.
        """
        attempts = Attempts(self.retries, self.timeout_s)
        while True:
            try:
                reply = yield from _attempt(call, attempts)
            except (httpx2.HTTPError, TimeoutError) as err:
                raise attempts.build_error(call, self.url, err) from err
            wait_s = attempts.find_wait(call, reply)
            if wait_s is None:
                return call.parse(reply)
            yield Wait(wait_s)

    def wait_until_ready(self, timeout_s: float) -> Flow[Readiness]:
        """Return the flow that asks for readiness until there is some.

        Raises:
            FoveaError: if the service is not ready in time.
        """
        end = time.monotonic() + timeout_s
        while True:
            try:
                found = yield from self.send(build_ready())
                if found.ready:
                    return found
                reason, code = found.reason, "not_ready"
            except FoveaError as err:
                if err.code not in ("unreachable", "timeout"):
                    raise
                reason, code = str(err), err.code
            if time.monotonic() >= end:
                raise FoveaError(f"not ready within {timeout_s:g} s: {reason}", code=code)
            yield Wait(_POLL_S)


def run(flow: Flow[T], perform: Callable[[Send | Wait], httpx2.Response | None]) -> T:
    """Perform a flow's steps and return its result."""
    resume: Callable[[], Send | Wait] = partial(next, flow)
    while True:
        try:
            step = resume()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            resume = partial(flow.send, perform(step))
        except Exception as err:  # noqa: BLE001 - the flow decides which errors end it
            resume = partial(flow.throw, err)


async def run_async(flow: Flow[T], perform: Callable[[Send | Wait], Awaitable[httpx2.Response | None]]) -> T:
    """Perform a flow's steps, awaiting each, and return its result."""
    resume: Callable[[], Send | Wait] = partial(next, flow)
    while True:
        try:
            step = resume()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            resume = partial(flow.send, await perform(step))
        except Exception as err:  # noqa: BLE001 - the flow decides which errors end it
            resume = partial(flow.throw, err)


def _attempt(call: Call[Any], attempts: Attempts) -> Flow[httpx2.Response]:
    """Return the flow of one attempt: a request, and the same on a new connection if a kept one has ended."""
    watch = ConnectionWatch()
    try:
        reply: httpx2.Response = yield _build_step(call, attempts, watch)
    except httpx2.HTTPError as err:
        if not (call.repeatable and watch.allows_repeat(err)):
            raise
        reply = yield _build_step(call, attempts, None)
    return reply


def _build_step(call: Call[Any], attempts: Attempts, watch: ConnectionWatch | None) -> Send:
    return Send(call.method, call.path, attempts.build_options(call), attempts.remaining_s, watch)
