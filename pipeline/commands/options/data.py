"""Options that stand for a key of the recipe's `data` section."""

from __future__ import annotations

import argparse
import json


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add --allow-leakage, --allow-shortcuts, --deep and --zip-encoding."""
    parser.add_argument(
        "--allow-leakage", action="store_true", help="let test images be copies of training images, or share groups"
    )
    parser.add_argument(
        "--allow-shortcuts",
        metavar="FACTS",
        help="facts of the files that may tell the classes, such as format,size: format, compression, size, shape, "
        "mode, metadata",
    )
    parser.add_argument(
        "--deep", action="store_true", help="search sets of more than 20,000 files whole, as smaller ones always are"
    )
    add_zip_encoding(parser)


def add_zip_encoding(parser: argparse.ArgumentParser) -> None:
    """Add --zip-encoding."""
    parser.add_argument(
        "--zip-encoding", metavar="NAME", help="of names in a zip that are not UTF-8, such as gbk, shift_jis or cp437"
    )


def data_overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the recipe's overrides on a command line: those of --set, then those of the options above."""
    flags = [f"data.{flag}=true" for flag in ("allow_leakage", "deep") if getattr(arguments, flag, False)]
    shortcuts, encoding = getattr(arguments, "allow_shortcuts", None), arguments.zip_encoding
    if shortcuts is not None:
        flags.append(f"data.allow_shortcuts={json.dumps([name.strip() for name in shortcuts.split(',')])}")
    return [*arguments.set, *flags, *([] if encoding is None else [f"data.zip_encoding={json.dumps(encoding)}"])]
