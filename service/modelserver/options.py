"""The command line: tensorflow_model_server's flags, and a few of our own."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_type_hints

from contract.cores import count_cores
from engine.precision_names import AUTO, PRECISION_SETTINGS
from engine.runtime import engine_names
from service import VERSION
from service.logs import fail
from service.modelserver.foreign_flags import IGNORED, REFUSED

logger = logging.getLogger(__name__)

DEFAULT_PORT = 8500


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= kind(text) <= high:
                return kind(text)
        name = "a whole number" if kind is int else "seconds"
        raise argparse.ArgumentTypeError(f"expected {name} from {low} to {high}. Received: {text!r}")

    return read


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "1", "false", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false. Received: {text!r}")
    return text.lower() in ("true", "1")


def _log_format(text: str) -> str:
    if text not in ("text", "json"):
        raise argparse.ArgumentTypeError(f"expected text or json. Received: {text!r}")
    return text


def _precision(text: str) -> str:
    if text not in PRECISION_SETTINGS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(PRECISION_SETTINGS)}. Received: {text!r}")
    return text


def _engine(text: str) -> str:
    if text not in engine_names():
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(engine_names())}. Received: {text!r}")
    return text


def _mapping(text: str) -> tuple[str, str]:
    source, _, target = text.partition("=")
    if not source.startswith("/") or not target:
        raise argparse.ArgumentTypeError(f"expected /FOLDER=FOLDER. Received: {text!r}")
    return source, str(Path(target).absolute())


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """Reads `name=value,...`: a value that is a whole number is passed as one, any other as text."""
    pairs = [part.split("=") for part in text.split(",") if part]
    if any(len(pair) != 2 or not pair[0] for pair in pairs):
        raise argparse.ArgumentTypeError(f"expected name=value,name=value. Received: {text!r}")
    return tuple((name, _int32_or_text(value)) for name, value in pairs)


def _list_engines() -> str:
    return f"{', '.join(engine_names())} (ours)"


def _int32_or_text(text: str) -> int | str:
    with contextlib.suppress(ValueError):
        if -(2**31) <= int(text) < 2**31:
            return int(text)
    return text


_COUNT, _PORT, _SECONDS = _number(int, 0, 4096), _number(int, 0, 65535), _number(float, -1, 86_400)
_BATCHING_FIELDS = {"max_batch_size": "max_batch_size", "num_batch_threads": "num_streams"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The model server's options; each field is the flag of its name."""

    host: Annotated[str, str, "address to listen on (ours)"] = "127.0.0.1"
    port: Annotated[int | None, _PORT, "TCP port; 0: any (default 8500, none with a socket)"] = None
    grpc_socket_path: Annotated[Path | None, Path, "Unix socket to listen on; with --port, on both"] = None
    grpc_channel_arguments: Annotated[
        tuple[tuple[str, int | str], ...], _channel_arguments, "name=value,... of gRPC; unknown names have no effect"
    ] = ()
    enable_serialization_as_tensor_content: Annotated[
        bool, _truth, "whether numbers are answered in tensor_content, not in typed fields (default false)"
    ] = False
    monitoring_port: Annotated[int | None, _PORT, "TCP port of metrics and /readyz (ours; default none)"] = None
    enable_grpc_healthcheck_service: Annotated[bool, _truth, "whether grpc.health.v1 is served (default false)"] = False
    model_config_file: Annotated[Path | None, Path, "text ModelServerConfig to follow; may appear later"] = None
    model_config_file_poll_wait_seconds: Annotated[float, _SECONDS, "0 reads it once (default 1)"] = 1.0
    model_name: Annotated[str, str, "the one model that is served without a config file"] = "default"
    model_base_path: Annotated[Path | None, Path, "the folder of its versions"] = None
    file_system_poll_wait_seconds: Annotated[float, _SECONDS, "0 looks once (default 1)"] = 1.0
    max_num_load_retries: Annotated[int, _number(int, 0, 1000), "tries after the first (default 2)"] = 2
    load_retry_interval_micros: Annotated[int, _number(int, 0, 10**12), "default 2000000"] = 2_000_000
    enable_model_warmup: Annotated[bool, _truth, "whether warm-up records are run (default true)"] = True
    allow_version_labels: Annotated[bool, _truth, "whether versions may have labels (default true)"] = True
    allow_version_labels_for_unavailable_models: Annotated[
        bool, _truth, "whether a new label may name a version that is not loaded (default false)"
    ] = False
    path_map: Annotated[tuple[tuple[str, str], ...], _mapping, "a folder of the config, and where it is here"] = ()
    engine: Annotated[str, _engine, _list_engines] = "auto"
    precision: Annotated[str, _precision, "auto, float32, or a faster one that the machine has (ours)"] = AUTO
    tensorflow_session_parallelism: Annotated[int, _COUNT, "threads that models run on; 0: one for each core"] = 0
    num_streams: Annotated[int, _COUNT, "batches of a model at a time (ours); 0: measured"] = 0
    max_batch_size: Annotated[int, _COUNT, "images of the largest batch (ours); 0: measured"] = 0
    enable_batching: Annotated[bool, _truth, "taken as said: batching is always on"] = True
    batching_parameters_file: Annotated[Path | None, Path, "its max_batch_size and num_batch_threads are read"] = None
    max_waiting_calls: Annotated[int, _number(int, 0, 10**6), "calls that may wait for a model (ours)"] = 256
    log_format: Annotated[str, _log_format, "text for people or json for programs (ours)"] = "text"
    tuning_cache: Annotated[Path | None, Path, "folder of measurements (ours; default in ~/.cache)"] = None

    @property
    def addresses(self) -> list[str]:
        """The addresses to listen on, in gRPC's form."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        socket = [] if self.grpc_socket_path is None else [f"unix:{self.grpc_socket_path}"]
        return socket if self.port is None else [*socket, f"{host}:{self.port}"]

    @property
    def num_threads(self) -> int:
        """Threads that models run on."""
        return self.tensorflow_session_parallelism or count_cores()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Log the error, and exit."""
        fail("modelserver", f"modelserver: {message}", usage=self.format_usage().rstrip())
        self.exit(2)


def build_parser(prog: str = "modelserver") -> argparse.ArgumentParser:
    """Return the parser of the flags that mean something here."""
    parser = _Parser(prog=prog, description=__doc__, allow_abbrev=False)
    hints = get_type_hints(Options, include_extras=True)
    for field in dataclasses.fields(Options):
        _, read, text = get_args(hints[field.name])
        kind: dict[str, Any] = {"nargs": "?", "const": True} if read is _truth else {}
        names = [f"--{field.name}"]
        text = text() if callable(text) else text
        if read is _log_format:
            names.append("--log-format")  # as the gateway's
        if read is _mapping:
            kind, names = {"action": "append", "metavar": "FROM=TO"}, ["--path-map", *names]
            kind["default"] = None  # argparse would append to the default itself
        parser.add_argument(*names, **{"type": read, "default": field.default, "help": text, **kind})
    parser.add_argument("--version", action="version", version=f"Fovea's model server {VERSION}")
    return parser


def parse_options(argv: Sequence[str], prog: str = "modelserver") -> Options:
    """Read the command line; a wrong one ends the process with status 2 and the reason on stderr.

    Args:
        argv: the arguments, without the program's name.
        prog: the command as it was typed, for the usage.
    """
    parser = build_parser(prog)
    given, foreign = parser.parse_known_args(argv)
    _judge_foreign(parser, foreign)
    if given.tuning_cache is None:
        given.tuning_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fovea", "tuning")
    given.path_map = tuple(given.path_map or ())
    if given.model_config_file is None and given.model_base_path is None:
        parser.error("expected --model_config_file, or --model_name and --model_base_path")
    if given.port is None and given.grpc_socket_path is None:
        given.port = DEFAULT_PORT
    if given.batching_parameters_file is not None:
        _apply_batching_file(parser, given)
    return Options(**vars(given))


def _judge_foreign(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Warn of flags without effect, and refuse unknown flags and those that a deployment relies on."""
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if name in REFUSED:
            parser.error(f"--{name}: {REFUSED[name]}")
        if name not in IGNORED:
            parser.error(f"unrecognized arguments: {argument}")
        logger.warning("--%s has no effect: %s", name, IGNORED[name])


def _apply_batching_file(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Take what means something here from a text BatchingParameters, whose message has no Python class."""
    path = given.batching_parameters_file
    try:
        text = re.sub(r"#.*", "", path.read_text())
    except (OSError, ValueError) as err:
        parser.error(f"--batching_parameters_file: {path.name} cannot be read: {err}")
    values = dict(re.findall(r"(\w+)\s*\{\s*value\s*:\s*([^\s}]+)\s*\}", text))
    for name, flag in _BATCHING_FIELDS.items():
        if name in values:
            try:
                setattr(given, flag, _number(int, 1, 10**6)(values.pop(name)))
            except argparse.ArgumentTypeError as err:
                parser.error(f"--batching_parameters_file: {name}: {err}")
    if values:
        logger.warning("%s: no effect: %s; nothing waits for a batch to fill", path.name, ", ".join(values))
