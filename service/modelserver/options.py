"""The command line: tensorflow_model_server's flags, and a few of our own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_PORT = 8500


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the model server is told at its start.

    Attributes:
        host: address to listen on.
        port: TCP port, 0 for any free one, None for none.
        grpc_socket_path: Unix socket to listen on, or None.
        model_config_file: file to follow, or None.
        model_config_file_poll_wait_s: seconds between reads of it; 0 means once.
        model_name: the one model that is served without a configuration file.
        model_base_path: its folder, or None.
        file_system_poll_wait_s: seconds between looks at the model folders; 0 or less means once.
        max_num_load_retries: how often loading is tried again.
        load_retry_interval_s: seconds between tries.
        enable_model_warmup: whether warm-up records are replayed before a version is available.
        path_map: folders as the configuration names them -> folders on this machine.
        intra_op_threads: threads inside one operation; 0 means one for each core.
        inter_op_threads: operations at a time; 0 means one for each core.
        num_workers: model runs at a time.
        max_waiting_calls: calls that may wait for one.
    """

    host: str = "127.0.0.1"
    port: int | None = DEFAULT_PORT
    grpc_socket_path: Path | None = None
    model_config_file: Path | None = None
    model_config_file_poll_wait_s: float = 1.0
    model_name: str = "default"
    model_base_path: Path | None = None
    file_system_poll_wait_s: float = 1.0
    max_num_load_retries: int = 2
    load_retry_interval_s: float = 2.0
    enable_model_warmup: bool = True
    path_map: Mapping[str, str] = field(default_factory=dict)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    num_workers: int = 2
    max_waiting_calls: int = 256


def parse_options(argv: Sequence[str]) -> Options:
    """Read the command line; a wrong one ends the process with status 2 and the reason on stderr.

    Args:
        argv: the arguments, without the program's name.
    """
    parser = _build_parser()
    given = parser.parse_args(argv)
    if given.model_config_file is None and given.model_base_path is None:
        parser.error("expected --model_config_file, or --model_name and --model_base_path")
    port = given.port
    if port is None and given.grpc_socket_path is None:
        port = DEFAULT_PORT
    return Options(
        host=given.host,
        port=port,
        grpc_socket_path=given.grpc_socket_path,
        model_config_file=given.model_config_file,
        model_config_file_poll_wait_s=given.model_config_file_poll_wait_seconds,
        model_name=given.model_name,
        model_base_path=given.model_base_path,
        file_system_poll_wait_s=given.file_system_poll_wait_seconds,
        max_num_load_retries=given.max_num_load_retries,
        load_retry_interval_s=given.load_retry_interval_micros / 1e6,
        enable_model_warmup=given.enable_model_warmup,
        path_map=dict(given.path_map),
        intra_op_threads=given.tensorflow_intra_op_parallelism,
        inter_op_threads=given.tensorflow_inter_op_parallelism,
        num_workers=given.tensorflow_session_parallelism,
        max_waiting_calls=given.max_waiting_calls,
    )


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelserver", description=__doc__, allow_abbrev=False, argument_default=None)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (ours)")
    add(
        "--port",
        type=_bounded(0, 65535),
        help=f"TCP port; 0 takes a free one (default {DEFAULT_PORT}, none with a socket)",
    )
    add("--grpc_socket_path", type=Path, help="Unix socket to listen on; with --port, on both")
    add("--model_config_file", type=Path, help="text ModelServerConfig to follow; may appear later")
    add("--model_config_file_poll_wait_seconds", type=_seconds, default=1.0, help="0 reads it once (default 1)")
    add("--model_name", default="default", help="the one model that is served without a config file")
    add("--model_base_path", type=Path, help="the folder of its versions")
    add("--file_system_poll_wait_seconds", type=_seconds, default=1.0, help="0 looks once (default 1)")
    add("--max_num_load_retries", type=_bounded(0, 1000), default=2, help="tries after the first (default 2)")
    add("--load_retry_interval_micros", type=_bounded(0, 10**12), default=2_000_000, help="default 2000000")
    add("--enable_model_warmup", type=_truth, default=True, nargs="?", const=True, help="true or false")
    add("--path-map", "--path_map", type=_mapping, action="append", default=[], metavar="FROM=TO",
        help="a folder as the config names it, and where it is here; repeatable (ours)")  # fmt: skip
    add("--tensorflow_intra_op_parallelism", type=_bounded(0, 4096), default=0, help="0: one for each core")
    add("--tensorflow_inter_op_parallelism", type=_bounded(0, 4096), default=0, help="0: one for each core")
    add("--tensorflow_session_parallelism", type=_bounded(1, 4096), default=2, help="model runs at a time (default 2)")
    add("--max_waiting_calls", type=_bounded(0, 10**6), default=256, help="more are refused (ours; default 256)")
    return parser


class _bounded:
    """A whole number within limits."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __call__(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = self._low - 1
        if not self._low <= value <= self._high:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {self._low} to {self._high}. Received: {text!r}"
            )
        return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"expected seconds. Received: {text!r}") from err
    if not -1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to 86400. Received: {text!r}")
    return value


def _truth(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false. Received: {text!r}")
    return values[text.lower()]


def _mapping(text: str) -> tuple[str, str]:
    source, equals, target = text.partition("=")
    if not equals or not source.startswith("/") or not target:
        raise argparse.ArgumentTypeError(f"expected /FOLDER=FOLDER. Received: {text!r}")
    return source, str(Path(target).absolute())
