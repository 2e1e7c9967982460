"""The model server as a part of the gateway."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from service.gateway.backend.backend import Backend
from service.in_process.transport import PEER, InProcessServer
from service.modelserver.options import Options
from service.modelserver.server import running_server


class InProcessBackend(Backend):
    """Starts the model server when the gateway starts, and stops it when the gateway's last request is answered.

    Args:
        options: of the model server; it listens on none of their addresses.
        timeout_s: longest wait for one reply, seconds.
    """

    def __init__(self, options: Options, *, timeout_s: float) -> None:
        self._server = InProcessServer()
        self._running = AsyncExitStack()
        self._options_of_server = replace(options, port=None, grpc_socket_path=None)
        super().__init__(PEER, timeout_s=timeout_s, connect=self._server.channel)

    async def open(self) -> None:
        """Start the model server, in this event loop; its models load in the background."""
        await self._running.enter_async_context(running_server(self._options_of_server, self._server))
        await super().open()

    async def close(self) -> None:
        """Stop the model server."""
        await super().close()
        await self._running.aclose()
