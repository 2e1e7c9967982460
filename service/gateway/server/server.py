"""Runs the gateway on uvicorn, with a stop that loses nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from service.gateway.context.settings import Settings
from service.gateway.http.cors import connection_headers
from service.gateway.server.connections import ConnectionLimits, GuardedProtocol, guarded_protocol
from service.gateway.server.listening import BACKLOG
from service.gateway.server.tls import ServerCertificate


class GatewayServer(uvicorn.Server):
    """uvicorn, but SIGTERM and SIGINT are a normal end.

    On the first signal readiness falls and replies begin to close their connections; after `delay_s`, in which load
    balancers can notice, the port closes and the requests in flight finish, those included that wait in the kernel's
    queue. uvicorn itself would then raise the signal again and die of it.

    Once a second `on_second` is called, and clients that take too long are sent away.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        delay_s: float,
        on_stop: Callable[[], None],
        on_second: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._on_second = on_second
        self._delay_s = delay_s
        self._on_stop = on_stop
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second SIGINT does not wait for requests."""
        if self._stop_at is None:
            self._on_stop()
            self._stop_at = time.monotonic() + self._delay_s
        elif sig == signal.SIGINT:
            self._stop_at = time.monotonic()
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Say whether to stop now; uvicorn asks ten times a second."""
        if counter % 10 == 0:
            self._on_second()
            protocol = cast(type[GuardedProtocol], self.config.http_protocol_class)
            protocol.check_times(self.server_state.connections, asyncio.get_running_loop().time())
        if self._stop_at is not None:
            for connection in self.server_state.connections:
                cast(GuardedProtocol, connection).stop()
        stop = await super().on_tick(counter)
        return stop or (self._stop_at is not None and time.monotonic() >= self._stop_at)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, then wait for the requests in flight."""
        kept = [listener.dup() for listener in sockets or []]  # or what the kernel has accepted is reset
        for server in self.servers:
            server.close()
        for listener in kept:
            await self._take_waiting(listener)
            listener.close()
        await super().shutdown(sockets)

    async def _take_waiting(self, listener: socket.socket) -> None:
        """Serve the connections that the kernel has accepted and the server has not."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            await loop.connect_accepted_socket(self._make_protocol, connection, ssl=self.config.ssl)

    def _make_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def run_server(
    app: FastAPI,
    listener: socket.socket,
    *,
    settings: Settings,
    on_stop: Callable[[], None],
    certificate: ServerCertificate | None = None,
) -> None:
    """Serve until a signal says to stop.

    Args:
        app: the gateway.
        listener: a listening socket; closed at the end.
        settings: delays and time limits.
        on_stop: called once, when the first signal arrives.
        certificate: for HTTPS; None for HTTP.
    """
    limits = ConnectionLimits(
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        keep_alive_timeout_s=settings.keep_alive_timeout_s,
        max_connections=settings.max_connections,
    )
    config = uvicorn.Config(
        app,
        http=guarded_protocol(limits, connection_headers(settings.cors_origins), settings.root_path or ""),
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # addressing.py reads them, from the proxies that are trusted
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
    )
    on_second = certificate.refresh if certificate else lambda: None
    server = GatewayServer(config, delay_s=settings.shutdown_delay_s, on_stop=on_stop, on_second=on_second)
    server.run(sockets=[listener])
