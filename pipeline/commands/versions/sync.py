"""`sync`: a model store in a folder and one in object storage brought in line."""

from __future__ import annotations

import argparse
import functools
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from contract.errors import StoreError
from contract.index import ROLES, ModelEntry
from contract.store import ModelStore
from pipeline.commands.options.location import parse_location
from pipeline.commands.options.paths import check_folder_to_write
from pipeline.data.objects.url import ObjectUrl
from pipeline.errors import BucketError, PipelineError
from pipeline.progress import note

if TYPE_CHECKING:
    from pipeline.publishing.bucket.sync import Synced


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("sync", help="copy a model store from object storage into a folder, or back")
    command.add_argument(
        "source",
        type=parse_location,
        metavar="FROM",
        help="a model store: s3://bucket/models, gs://, abfs:// or a folder",
    )
    command.add_argument("target", type=parse_location, metavar="TO", help="the other kind")
    command.add_argument(
        "--watch", type=_seconds, metavar="SECONDS", help="go on, looking again after so many; failures are tried again"
    )
    command.set_defaults(command=_sync)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds, 0.1 to 86400. Received: {text!r}")
    return seconds


def _sync(arguments: argparse.Namespace) -> None:
    source, target = arguments.source, arguments.target
    if isinstance(source, ObjectUrl) and isinstance(target, Path):
        run = _fetching(source, target)
    elif isinstance(source, Path) and isinstance(target, ObjectUrl):
        run = _sending(source, target)
    else:
        raise PipelineError(
            "expected a folder and an address of object storage, such as s3://bucket/models. "
            f"Received: {source} and {target}"
        )
    if arguments.watch is not None:
        signal.signal(signal.SIGTERM, _stop)
    complaint = ""
    while True:
        try:
            done = run()
            _tell(done, quiet=arguments.watch is not None)
            complaint = ""
        except (BucketError, StoreError) as err:
            if arguments.watch is None:
                raise
            if str(err) != complaint:  # once, not at every look
                complaint = str(err)
                note(f"warning: {complaint}; it is tried again")
        if arguments.watch is None:
            return
        time.sleep(arguments.watch)


def _stop(*_: object) -> NoReturn:
    """End as asked, between two steps of Python: a version that is not whole yet is removed."""
    raise SystemExit(0)


def _fetching(source: ObjectUrl, target: Path) -> Callable[[], Synced]:
    check_folder_to_write(target, "TO")
    from pipeline.publishing.bucket.bucket import open_bucket
    from pipeline.publishing.bucket.sync import fetch

    return functools.partial(fetch, open_bucket(source), ModelStore(target))


def _sending(source: Path, target: ObjectUrl) -> Callable[[], Synced]:
    if not (source / "index.json").is_file():
        raise PipelineError(f"{source}: expected a model store, a folder with index.json. Received: none")
    from pipeline.publishing.bucket.bucket import open_bucket
    from pipeline.publishing.bucket.sync import send

    return functools.partial(send, ModelStore(source), open_bucket(target))


def _tell(done: Synced, *, quiet: bool) -> None:
    for version in done.versions:
        print(f"copied: {version}", flush=True)
    for name, entry in done.entries.items():
        print(f"{name}: {_roles(entry)}", flush=True)
    if not done.entries and not quiet:
        print("nothing new", flush=True)


def _roles(entry: ModelEntry) -> str:
    found = [f"{role} {getattr(entry, role)}" for role in ROLES if getattr(entry, role) is not None]
    return ", ".join(found) or "no version with a role"
