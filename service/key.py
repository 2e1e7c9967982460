"""`python -m service key add|list|remove`: the file of API keys that a gateway reads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.gateway.access.api_keys import (
    RIGHTS,
    ApiKey,
    KeyFileError,
    hash_secret,
    make_secret,
    read_keys,
    write_keys,
)

_DESCRIPTION = "Makes, lists and removes the API keys that a gateway reads."
PROG = "python -m service key"


def main(argv: Sequence[str], prog: str = PROG) -> int:
    """Add, list or remove keys; a running gateway follows within a second.

    Args:
        argv: the command line.
        prog: the command as it was typed, for the usage.

    Returns:
        0 done, 1 refused (the reason is the last line of stderr), 2 wrong use.
    """
    try:
        options = build_parser(prog).parse_args(argv)
    except SystemExit as err:  # argparse has already printed the usage and the reason
        return int(err.code or 0)
    try:
        options.run(options)
    except KeyFileError as err:
        print(f"key: {err}", file=sys.stderr)
        return 1
    return 0


def _add(options: argparse.Namespace) -> None:
    """Make a key, keep its hash, print it once."""
    keys = read_keys(options.keys) if options.keys.exists() else ()
    if any(key.name == options.name for key in keys):
        raise KeyFileError(f"there is a key named {options.name} already; remove it first, or take another name")
    secret, now = make_secret(), datetime.now(UTC).replace(microsecond=0)
    try:
        key = ApiKey(
            name=options.name,
            sha256=hash_secret(secret),
            rights=tuple(dict.fromkeys(options.rights.split(","))),
            created=now,
            expires=None if options.days is None else now + timedelta(days=options.days),
        )
    except ValueError as err:
        raise KeyFileError(
            f"expected a name of letters, digits, _ and -, and rights among {', '.join(RIGHTS)}. "
            f"Received: {options.name!r}, {options.rights!r}"
        ) from err
    write_keys(options.keys, [*keys, key])
    print(secret)
    print(
        f"{options.name} is in {options.keys}, as a hash: this is the only time that the key is shown", file=sys.stderr
    )


def _list(options: argparse.Namespace) -> None:
    """Print name, rights and dates of every key."""
    for key in read_keys(options.keys):
        until = f"until {key.expires:%Y-%m-%d}" if key.expires else "for ever"
        print(f"{key.name}  {','.join(key.rights)}  since {key.created:%Y-%m-%d}  {until}")


def _remove(options: argparse.Namespace) -> None:
    """Take a key out of the file."""
    keys = read_keys(options.keys)
    rest = [key for key in keys if key.name != options.name]
    if len(rest) == len(keys):
        raise KeyFileError(f"expected one of {', '.join(key.name for key in keys) or 'none'}. Received: {options.name}")
    write_keys(options.keys, rest)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1. Received: {text}")
    return int(text)


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog, description=_DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("--keys", type=Path, required=True, metavar="FILE", help="the file of keys (FOVEA_KEYS_FILE)")
    add = commands.add_parser("add", parents=[file], help="make a key and print it, once", allow_abbrev=False)
    add.add_argument("name", metavar="NAME", help="who will use it")
    add.add_argument("--rights", default="predict", help=f"separated by commas, of {', '.join(RIGHTS)} (predict)")
    add.add_argument("--days", type=_positive, help="how long it is good (default: for ever)")
    add.set_defaults(run=_add)
    show = commands.add_parser("list", parents=[file], help="names, rights and dates", allow_abbrev=False)
    show.set_defaults(run=_list)
    remove = commands.add_parser("remove", parents=[file], help="take a key out", allow_abbrev=False)
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=_remove)
    return parser
