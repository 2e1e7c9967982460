"""The options of commands that work in units: --unit-rows, --shard, --executor, --address and --workers."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.units.work import Executor, Shard

LOCAL, RAY = "local", "ray"
_UNIT_ROWS = 1000
_MAX_UNIT_ROWS = 1_000_000
_MAX_WORKERS = 10_000
_OPTIONS = ("unit_rows", "shard", "executor", "address", "workers")
_OF_RAY = ("address", "workers")


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--unit-rows", type=int, metavar="N", help=f"images of a part (default {_UNIT_ROWS})")
    parser.add_argument(
        "--shard", metavar="I/N", help="work on each N-th part from I on, 0 to N - 1: one of N processes, such as 0/4"
    )
    parser.add_argument(
        "--executor", choices=[LOCAL, RAY], help="this process (default), or the workers of a Ray cluster"
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster's head (default RAY_ADDRESS, else a cluster on this machine that ends with the command)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="Ray workers, a core each (default one a core)")


def refuse_executor(arguments: argparse.Namespace, reason: str) -> None:
    """Refuse the options where a command makes no parts.

    Raises:
        PipelineError: naming the first one that was given.
    """
    for option in _OPTIONS:
        if getattr(arguments, option) is not None:
            raise PipelineError(f"--{option.replace('_', '-')}: {reason}")


def read_unit_rows(arguments: argparse.Namespace) -> int:
    """Return the number of images of a part.

    Raises:
        PipelineError: if it is out of range.
    """
    rows = arguments.unit_rows
    if rows is None:
        return _UNIT_ROWS
    if not 1 <= rows <= _MAX_UNIT_ROWS:
        raise PipelineError(f"--unit-rows: expected 1 to {_MAX_UNIT_ROWS}. Received: {rows}")
    return int(rows)


def read_shard(text: str | None) -> Shard | None:
    """Return the shard that `--shard` names.

    Raises:
        PipelineError: if it is none.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if found is None or int(found[1]) >= int(found[2]):
        raise PipelineError(f"--shard: expected I/N with I from 0 to N - 1, such as 0/4. Received: {text}")
    from pipeline.units.work import Shard

    return Shard(int(found[1]), int(found[2]))


def read_executor(arguments: argparse.Namespace) -> Executor:
    """Return what works on units; nothing is connected yet.

    Raises:
        PipelineError: if options contradict each other, Ray is not installed, or a cluster elsewhere has no token.
    """
    if arguments.executor != RAY:
        for option in _OF_RAY:
            if getattr(arguments, option) is not None:
                raise PipelineError(f"--{option}: expected --executor ray with it")
        from pipeline.units.work import run_here

        return run_here
    if arguments.workers is not None and not 1 <= arguments.workers <= _MAX_WORKERS:
        raise PipelineError(f"--workers: expected 1 to {_MAX_WORKERS}. Received: {arguments.workers}")
    from pipeline.units.ray_cluster import check_address, check_ray
    from pipeline.units.ray_pool import RayExecutor

    address = arguments.address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        check_address(address)
    check_ray()
    return RayExecutor(address, arguments.workers)
