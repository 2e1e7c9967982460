"""Waits for the versions of an in-process model repository."""

from __future__ import annotations

import asyncio
import time

from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.versions import State


async def until(repository: ModelRepository, name: str, expected: dict[int, State], *, timeout_s: float = 60) -> None:
    """Wait until the versions of a model are in these states.

    Raises:
        TimeoutError: if they do not get there in time.
    """
    deadline = time.monotonic() + timeout_s
    while (states := {v.number: v.state for v in repository.versions(name)}) != expected:
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected {expected}. Received: {states}")
        await asyncio.sleep(0.02)
