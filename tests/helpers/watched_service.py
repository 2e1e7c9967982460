"""`python -m tests.helpers.watched_service ...`: the service, with a watch over the gateway's event loop.

While the loop runs one callback, or waits for a thread that holds the interpreter, the process spends CPU time and the
loop does not come round. Such spans are written to the file that WATCH_FILE names, one a line, in seconds. They are CPU
time of the process, so that other work on the machine does not count, and not more than the time that has passed, so
that threads which leave the interpreter alone count once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path

from service.__main__ import main
from service.gateway.server.server import GatewayServer

_INTERVAL_S = 0.01
_NOTED_S = 0.05


async def watch(path: Path) -> None:
    """Write spans to a file until cancelled."""
    while True:
        cpu, wall = time.process_time(), time.monotonic()
        await asyncio.sleep(_INTERVAL_S)
        span = min(time.process_time() - cpu, time.monotonic() - wall)
        if span >= _NOTED_S:
            with path.open("a") as file:
                file.write(f"{span:.3f}\n")


def _install() -> None:
    startup = GatewayServer.startup

    async def watched(self: GatewayServer, sockets: list[socket.socket] | None = None) -> None:
        self.watch = asyncio.create_task(watch(Path(os.environ["WATCH_FILE"])))  # type: ignore[attr-defined]
        await startup(self, sockets)

    GatewayServer.startup = watched  # type: ignore[method-assign]


if __name__ == "__main__":
    _install()
    sys.exit(main(sys.argv[1:]))
