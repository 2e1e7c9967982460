"""Calls of the model server that fail."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import grpc
import pytest

from service.gateway.backend.retries import RetryBudget, call
from service.gateway.context.errors import GatewayError


class Request:
    """Something large that a call holds."""


def test_a_failed_call_keeps_nothing_until_a_full_collection() -> None:
    """The error has no reference cycle: what the frames of the call hold is freed with it."""
    held: list[weakref.ref[Request]] = []

    async def fail(request: Request, *, timeout: float) -> Any:  # noqa: ASYNC109 - as a gRPC stub's
        held.append(weakref.ref(request))
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details="no")

    async def main() -> None:
        with pytest.raises(GatewayError):
            await call(fail, Request(), timeout_s=5, tries=1, budget=RetryBudget())

    gc.disable()
    try:
        asyncio.run(main())
        assert [None] == [ref() for ref in held]
    finally:
        gc.enable()
