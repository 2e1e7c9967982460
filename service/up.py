"""`python -m service up`: gateway and model server on this machine; Docker only for TensorFlow Serving."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from contract.commands import spell_command
from contract.cores import count_cores
from contract.errors import StoreError
from contract.store import CONTAINER_ROOT, ModelStore
from engine.precision_names import AUTO, PRECISION_SETTINGS
from service.child import Child
from service.container import IMAGE, NETWORKS, ContainerError, Placement, ServingContainer
from service.gateway.context.backend_targets import MAX_SOCKET_PATH_BYTES
from service.gateway.context.settings import (
    Settings,
    SettingsError,
    describe_flags,
    load_settings,
    parse_flags,
)
from service.gateway.server.listening import bind_socket, explain_bind_error, url_of
from service.gateway.server.tls import trusting
from service.logs import fail, say, set_up_logging

PROG = "python -m service up"
# One interpreter runs one thread's Python at a time; more cores than these could wait for it with a small network.
_FEW_CORES = 4
_USAGE = f"""[--models-dir models] [--host 127.0.0.1] [--port 8000] [the gateway's flags]

  --engine ENGINE        embedded, or tfserving: TensorFlow Serving in a container (default embedded)
  --processes NUMBER     of gateway and embedded one together, 1 or 2 (default 1 on up to {_FEW_CORES} cores, else 2)
  --precision PRECISION  of the embedded one: auto, float32 or a faster one that the machine has (default auto)
  --image IMAGE          of TensorFlow Serving's container (default {IMAGE})
  --network NETWORK      of that container: bridge or host (default bridge)"""

_TICK_S = 0.1
_READINESS_TIMEOUT_S = 1.0
_GATEWAY_MARGIN_S = 10.0  # beyond the gateway's own limits, before it is killed
_MODEL_SERVER_STOP_S = 15.0
OWN_FLAGS = ("backend", "listen_fd", "models")  # what `up` itself decides
# While starting, these are the normal course of things.
_UNREMARKABLE = frozenset({"unavailable", "model_server_unreachable", "draining"})


def main(argv: Sequence[str], prog: str = PROG) -> int:
    """Run the service until SIGTERM or SIGINT; a second signal does not wait for requests.

    Args:
        argv: flags.
        prog: the command as it was typed, for the usage.

    Returns:
        0 stopped as asked, 1 refused or failed (the reason is the last line of stderr), 2 wrong use.
    """
    usage, name = f"usage: {prog} {_USAGE}", prog.rpartition(" ")[2]
    if "-h" in argv or "--help" in argv:
        print(usage, describe_flags(without=OWN_FLAGS), sep="\n\n")
        return 0
    signals = Signals()
    try:
        wanted, rest = _take_engine(argv, prog)
        settings = _load_settings(rest)
    except SettingsError as err:
        fail("up", f"{name}: {err}", usage=usage)
        return 2
    set_up_logging(settings.log_format, level=settings.log_level)
    store = ModelStore(Path(str(settings.models_dir)).absolute())
    try:
        store.ensure()
        with (
            bind_socket(settings.host, settings.port) as listener,
            _model_server(store, wanted, settings.log_format) as server,
        ):
            child = _start_gateway(rest, server, store, precision=wanted.precision, listener=listener)
            url = url_of(listener, settings.scheme)
            listener.close()  # the child has it; clients are refused, not kept waiting, when that is gone
            reason = _run(child, server, url, store=store, settings=settings, signals=signals)
    except (StoreError, ContainerError) as err:
        reason = str(err)
    except OSError as err:
        reason = explain_bind_error(settings.host, settings.port, err)
    if reason:
        fail("up", f"{name}: {reason}")
    return 1 if reason else 0


class Signals:
    """Counts the signals that mean stop: SIGTERM, SIGINT, and SIGHUP of a terminal that closes."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


def _load_settings(argv: Sequence[str]) -> Settings:
    for name in OWN_FLAGS:
        if name in parse_flags(argv):
            raise SettingsError(f"--{name.replace('_', '-')}: `up` decides this itself; use `gateway` to set it")
    return load_settings(argv, os.environ, models_dir="models")


@dataclass(frozen=True)
class _Wanted:
    """The model server that is wanted.

    Attributes:
        placement: of TensorFlow Serving; None for the embedded one.
        precision: of the embedded one.
        is_apart: whether the embedded one has a process of its own.
    """

    placement: Placement | None = None
    precision: str = AUTO
    is_apart: bool = True


def build_engine_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the flags that the gateway does not have."""
    parser = argparse.ArgumentParser(prog=prog, usage=f"{prog} {_USAGE}", add_help=False, allow_abbrev=False)
    parser.add_argument("--engine", choices=("embedded", "tfserving"), default="embedded")
    parser.add_argument("--precision", choices=PRECISION_SETTINGS)
    parser.add_argument("--processes", type=int, choices=(1, 2))
    parser.add_argument("--image")
    parser.add_argument("--network", choices=NETWORKS)
    return parser


def _take_engine(argv: Sequence[str], prog: str) -> tuple[_Wanted, list[str]]:
    """Return the model server that is wanted, and the gateway's flags."""
    own, rest = build_engine_parser(prog).parse_known_args(argv)
    if own.engine == "tfserving":
        for name in ("precision", "processes"):
            if getattr(own, name):
                raise SettingsError(f"--{name}: only with --engine embedded")
        return _Wanted(Placement(own.image or IMAGE, own.network or NETWORKS[0])), rest
    if own.image or own.network:
        raise SettingsError("--image and --network: only with --engine tfserving")
    processes = own.processes or (1 if count_cores() <= _FEW_CORES else 2)
    return _Wanted(precision=own.precision or AUTO, is_apart=processes == 2), rest


@dataclass(frozen=True)
class _ModelServer:
    """A process or container, and where its gRPC is."""

    process: Child | ServingContainer
    address: str


@contextmanager
def _model_server(store: ModelStore, wanted: _Wanted, log_format: str) -> Iterator[_ModelServer | None]:
    """Run the model server, and leave nothing of it; None if it is a part of the gateway."""
    if wanted.placement is not None:
        if not store.read_index():
            raise ContainerError(f"TensorFlow Serving ends when it has nothing to serve: {store.root} has no model yet")
        container = ServingContainer(store.root, wanted.placement)
        try:
            yield _ModelServer(container, container.address)
        finally:
            container.stop(_MODEL_SERVER_STOP_S)
    elif wanted.is_apart:
        with _socket_directory() as directory:
            address = directory / "modelserver.sock"  # and no port: no other user of this machine reaches it
            flags = [f"--grpc_socket_path={address}", f"--log_format={log_format}"]
            child = Child("model server", ["modelserver", *flags, *_model_server_flags(store, wanted.precision)])
            try:
                yield _ModelServer(child, f"unix:{address}")
            finally:
                child.stop(_MODEL_SERVER_STOP_S)
    else:
        yield None


def _start_gateway(
    flags: Sequence[str], server: _ModelServer | None, store: ModelStore, *, precision: str, listener: socket.socket
) -> Child:
    """Start the gateway; with the embedded model server in its process if there is no other one."""
    fds = [listener.fileno()]
    flags = [*flags, f"--listen-fd={listener.fileno()}", f"--models-dir={store.root}"]
    if server is not None:
        return Child("gateway", ["gateway", *flags, f"--backend={server.address}"], pass_fds=fds)
    own = _model_server_flags(store, precision)
    return Child("server", [*own, "--", *flags], module="service.in_process", pass_fds=fds)


def _run(
    child: Child,
    server: _ModelServer | None,
    url: str,
    *,
    store: ModelStore,
    settings: Settings,
    signals: Signals,
) -> str | None:
    """Wait, and stop what was started; return what went wrong, if anything did."""
    children: list[Child | ServingContainer] = [child] if server is None else [child, server.process]
    try:
        return _wait(children, url, store=store, signals=signals, certificate=settings.tls_cert) or _stop(
            children, settings, signals=signals
        )
    finally:
        child.stop(_MODEL_SERVER_STOP_S)


def _wait(
    children: Sequence[Child | ServingContainer],
    url: str,
    *,
    store: ModelStore,
    signals: Signals,
    certificate: Path | None,
) -> str | None:
    """Wait for a signal; return which child ended, if one does first. Says meanwhile how the service is doing."""
    said: set[str] = set()
    ready = False
    while not signals.count:
        for child in children:
            if child.status is not None:
                return f"the {child.name} ended by itself with status {child.status}, so everything was stopped"
        if not ready:
            ready = _report(_fetch_readiness(url, certificate), url, said=said)
            if ready:
                _report_candidates(store)
        time.sleep(_TICK_S)
    return None


def _report_candidates(store: ModelStore) -> None:
    """Print the models that have no live version, and how each gets one."""
    with suppress(StoreError):
        for name, entry in sorted(store.read_index().items()):
            if entry.live is None and entry.candidate is not None:
                command = spell_command(f"promote {name} {entry.candidate}")
                say(f"not live: {name}: version {entry.candidate} is a candidate; make it live with: {command}")


def _stop(children: Sequence[Child | ServingContainer], settings: Settings, *, signals: Signals) -> str | None:
    """Stop the gateway, which answers its accepted requests, and then the model server; one process does both."""
    limits_s = [settings.shutdown_delay_s + settings.drain_timeout_s + _GATEWAY_MARGIN_S, _MODEL_SERVER_STOP_S]
    for child, limit_s in zip(children, limits_s if len(children) > 1 else [sum(limits_s)], strict=True):
        child.terminate()
        deadline = time.monotonic() + limit_s
        while child.status is None:
            if signals.count > 1 or time.monotonic() > deadline:
                child.kill()
            time.sleep(_TICK_S / 2)
    wrong = [f"the {child.name} ended with status {child.status}" for child in children if child.status]
    return "; ".join(wrong) or None


def _report(reply: dict[str, dict[str, str]] | None, url: str, *, said: set[str]) -> bool:
    """Print changes of readiness, and models that do not answer; return whether the service is ready."""
    if reply is None:
        return False
    if "error" not in reply:
        say(f"Fovea is ready: {url} (documentation: {url}/docs)")
        for heading in ("failed", "pending"):
            for name, reason in reply.get(heading, {}).items():
                say(f"{heading}: {name}: {reason}")
        return True
    code, message = reply["error"]["code"], reply["error"]["message"]
    if code not in _UNREMARKABLE and message not in said:
        said.add(message)
        say(f"Fovea is up at {url}, but not ready: {message}")
    return False


def _fetch_readiness(url: str, certificate: Path | None) -> dict[str, dict[str, str]] | None:
    """Return the body of /readyz, None while nothing answers."""
    address = urlsplit(url).netloc
    try:
        if certificate is None:
            connection = http.client.HTTPConnection(address, timeout=_READINESS_TIMEOUT_S)
        else:
            trust = trusting(certificate)
            connection = http.client.HTTPSConnection(address, timeout=_READINESS_TIMEOUT_S, context=trust)
    except OSError:  # the gateway names the fault of the certificate
        return None
    try:
        connection.request("GET", "/readyz")
        body: dict[str, dict[str, str]] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return body


def _model_server_flags(store: ModelStore, precision: str) -> list[str]:
    return [
        f"--model_config_file={store.config_path}",
        f"--precision={precision}",
        "--enable_serialization_as_tensor_content",  # the gateway reads it faster
        "--model_config_file_poll_wait_seconds=1",
        f"--path-map={CONTAINER_ROOT}={store.root}",
    ]


@contextmanager
def _socket_directory() -> Iterator[Path]:
    """Make a private folder, with a path short enough for a Unix socket in it."""
    directory = Path(tempfile.mkdtemp(prefix="fovea-"))
    if len(os.fsencode(directory / "modelserver.sock")) > MAX_SOCKET_PATH_BYTES:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="fovea-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
