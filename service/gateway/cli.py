"""`python -m service gateway`: the gateway alone."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.gateway.context.settings import Settings, SettingsError, describe_flags, load_settings
from service.gateway.server.listening import bind_socket, explain_bind_error, url_of
from service.logs import fail, set_up_logging

if TYPE_CHECKING:
    from service.gateway.backend.model_server import ModelServer
    from service.gateway.telemetry.metrics import Metrics

logger = logging.getLogger("fovea.gateway")

PROG = "python -m service gateway"


def main(argv: Sequence[str], prog: str = PROG) -> int:
    """Run the gateway until SIGTERM or SIGINT.

    Args:
        argv: flags.
        prog: the command as it was typed, for the usage.

    Returns:
        0 stopped as asked, 1 the address, the keys or the certificate cannot be used, 2 wrong use.
    """
    usage = f"usage: {prog} (--models-dir DIR | --models NAME,...) [--backend ADDRESS] [flags]"
    if "-h" in argv or "--help" in argv:
        print(usage, describe_flags(), sep="\n\n")
        return 0
    try:
        settings = load_settings(argv, os.environ)
    except SettingsError as err:
        fail("gateway", f"gateway: {err}", usage=usage)
        return 2
    return run_gateway(settings)


def run_gateway(settings: Settings, backend: ModelServer | None = None) -> int:
    """Run the gateway with these settings; see `main`.

    Args:
        settings: everything that can be set.
        backend: a model server of this process; None for the one or several that the settings name.
    """
    # Imported here so that wrong use is answered at once: the web framework takes half a second to load.
    from service.gateway.access.api_keys import KeyFileError
    from service.gateway.app import create_app
    from service.gateway.components import build_components, components_of
    from service.gateway.context.errors import StorageError
    from service.gateway.server.server import run_server
    from service.gateway.server.tls import CertificateError, ServerCertificate
    from service.gateway.telemetry.logs import logged_request_id
    from service.gateway.telemetry.tracing import TracingError

    set_up_logging(settings.log_format, level=settings.log_level, request_id=logged_request_id)
    with contextlib.ExitStack() as stack:
        try:
            certificate = ServerCertificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
            app = create_app(settings, build_components(settings, backend))
            listener = _open_socket(settings)
            metrics_url = _listen_for_metrics(settings, components_of(app).metrics, stack=stack)
        except (KeyFileError, CertificateError, SettingsError, StorageError, TracingError) as err:
            reason = f"{err}: {err.__cause__}" if isinstance(err, StorageError) else str(err)
            fail("gateway", f"gateway: {reason}")
            return 1
        place = f"at {settings.backend}" if backend is None else "in this process"
        logger.info("listening on %s, model server %s", url_of(listener, settings.scheme), place)
        logger.info("API keys are %s; metrics at %s", "needed" if settings.needs_key else "not needed", metrics_url)
        on_stop = components_of(app).readiness.drain
        gc.freeze()  # modules and app stay: full collections, in which every request waits, leave them out
        run_server(app, listener, settings=settings, on_stop=on_stop, certificate=certificate)
        logger.info("stopped")
    return 0


def _listen_for_metrics(settings: Settings, metrics: Metrics, *, stack: contextlib.ExitStack) -> str:
    """Return where the metrics are, on a port of their own if that is asked for."""
    if settings.metrics_port is None:
        return "/metrics"
    try:
        url, close = metrics.listen(settings.host, settings.metrics_port)
    except OSError as err:
        raise SettingsError(explain_bind_error(settings.host, settings.metrics_port, err, "--metrics-port")) from err
    stack.callback(close)
    return url


def _open_socket(settings: Settings) -> socket.socket:
    """Return the socket that requests come to.

    Raises:
        SettingsError: if the address cannot be listened on, or must not be without keys.
    """
    if settings.listen_fd is None:
        try:
            return bind_socket(settings.host, settings.port)
        except OSError as err:
            raise SettingsError(explain_bind_error(settings.host, settings.port, err)) from err
    listener = socket.socket(fileno=settings.listen_fd)
    try:
        settings.check_reach(str(listener.getsockname()[0]))
    except ValueError as err:
        raise SettingsError(str(err)) from err
    return listener
