"""`python -m service gateway`: the gateway alone."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence

from service.gateway.listening import bind_socket, url_of
from service.gateway.settings import Settings, SettingsError, describe_flags, load_settings

logger = logging.getLogger("fovea.gateway")

USAGE = "usage: python -m service gateway (--models-dir DIR | --models NAME,...) [--backend ADDRESS] [flags]"


def main(argv: Sequence[str]) -> int:
    """Run the gateway until SIGTERM or SIGINT.

    Returns:
        0 stopped as asked, 1 the address cannot be listened on, 2 wrong use.
    """
    if "-h" in argv or "--help" in argv:
        print(USAGE, describe_flags(), sep="\n\n")
        return 0
    try:
        settings = load_settings(argv, os.environ)
    except SettingsError as err:
        print(USAGE, f"gateway: {err}", sep="\n", file=sys.stderr)
        return 2
    return run_gateway(settings)


def run_gateway(settings: Settings) -> int:
    """Run the gateway with these settings; see `main`."""
    # Imported here so that wrong use is answered at once: the web framework takes half a second to load.
    from service.gateway.app import create_app
    from service.gateway.components import components_of
    from service.gateway.logs import set_up_logging
    from service.gateway.server import run_server

    set_up_logging(settings.log_level)
    try:
        listener = _open_socket(settings)
    except OSError as err:
        print(f"gateway: cannot listen on {settings.host}:{settings.port}: {err.strerror or err}", file=sys.stderr)
        return 1
    app = create_app(settings)
    logger.info("listening on %s, model server at %s", url_of(listener), settings.backend)
    run_server(app, listener, settings=settings, on_stop=components_of(app).readiness.drain)
    logger.info("stopped")
    return 0


def _open_socket(settings: Settings) -> socket.socket:
    if settings.listen_fd is not None:
        return socket.socket(fileno=settings.listen_fd)
    return bind_socket(settings.host, settings.port)
