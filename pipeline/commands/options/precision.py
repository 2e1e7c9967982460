"""The option --precision of commands that compute with a published version."""

from __future__ import annotations

import argparse

_AUTO = "auto"  # engine.precision's, which brings NumPy


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add --precision."""
    parser.add_argument(
        "--precision",
        default=_AUTO,
        help="auto (default: the fastest that the version's verification allows), float32, or a faster one",
    )
