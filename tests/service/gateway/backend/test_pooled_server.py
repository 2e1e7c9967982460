"""A model server of a pool is let go of in bounded time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.gateway.backend.pooled_server import PooledServer


@pytest.mark.parametrize("steps", range(4))
def test_close_ends_it_in_the_moment_of_a_change(tmp_path: Path, steps: int) -> None:
    """A change of the connection wakes the task that is told to end, some steps of the event loop before."""

    async def main() -> None:
        server = PooledServer(
            f"unix:{tmp_path}/none", timeout_s=1, metadata=None, names=lambda: (), on_change=lambda: None
        )
        await server.open()
        await asyncio.sleep(0.05)
        server._connection_changed()
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await server.close()

    asyncio.run(main())
