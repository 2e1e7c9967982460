"""Calls of the model server, made again where that helps, within a budget.

Retries may add a tenth to the load; they never multiply it when everything fails.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

import grpc

from service.gateway.backend.call_errors import translate_error
from service.gateway.context.errors import OverloadedError

logger = logging.getLogger("fovea.backend")

MAX_TRIES = 3
FIRST_PAUSE_S = 0.05


class RetryBudget:
    """Tokens: every call brings a part of one, every retry costs one.

    Args:
        ratio: tokens that a call brings.
        reserve: tokens at the start, and the most that are kept.
    """

    def __init__(self, *, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._tokens = reserve

    def count_call(self) -> None:
        """Bring what one call brings."""
        self._tokens = min(self._reserve, self._tokens + self._ratio)

    def spend(self) -> bool:
        """Say whether a retry is allowed, and pay for it."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


async def call(method: Any, request: Any, *, timeout_s: float, tries: int, budget: RetryBudget) -> Any:
    """Call the model server, again if it cannot be reached and time and budget allow.

    Args:
        method: of a gRPC stub.
        request: its argument.
        timeout_s: longest wait for an answer, all tries together, seconds.
        tries: most calls.
        budget: pays for all but the first.

    Raises:
        GatewayError: if the last call failed, by `call_errors`.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while True:
        tries -= 1
        try:
            return await method(request, timeout=max(0.0, deadline - time.monotonic()))
        except grpc.aio.AioRpcError as err:
            code, details = err.code(), err.details() or ""
            level = logging.DEBUG if code is grpc.StatusCode.NOT_FOUND else logging.WARNING
            logger.log(level, "model server: %s: %s", code.name, details[:300])
            error = translate_error(code, details)
            # A full queue is UNAVAILABLE too: an overloaded server is not called again.
            again = code is grpc.StatusCode.UNAVAILABLE and not isinstance(error, OverloadedError) and tries > 0
            if not again or time.monotonic() + pause_s >= deadline or not budget.spend():
                try:
                    raise error from err
                finally:
                    del error  # it refers to this frame, which would keep the request until a full collection
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s *= 2
